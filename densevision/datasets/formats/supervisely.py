"""Supervisely: a project of datasets, each with a folder `img` and a folder `ann` of one JSON per image.

Supervisely and DatasetNinja write it. `meta.json` lists the classes; the datasets of a project may be its splits. The
label file of `a.jpg` is `a.jpg.json`; older exports name it `a.json`. Masks are bitmaps (a PNG, compressed again by
zlib, in base64) with the place of their first pixel, or polygons that may have holes. Corners of rectangles are read as
they are. Rectangles have no mask.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densevision.datasets.formats.coco_lists import is_integer
from densevision.datasets.formats.label_files import parse_numbers, read_json, skip_shape_without_area
from densevision.datasets.formats.labeled_objects import LabeledImage, LabeledObject, MaskWindow
from densevision.io.image import MAX_PIXELS
from densevision.io.image_files import IMAGE_SUFFIXES, MAX_INT32, list_files, list_folders
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import encode

__all__ = ["find_labels", "read_class_names", "read_images"]

SHAPES_WITHOUT_AREA = ("line", "point", "graph", "cuboid", "any")
MIN_NUMBERS = 6
"""Numbers of the smallest polygon, a triangle."""
MAX_BITMAP_BYTES = 1 << 28
"""Bytes of a bitmap's PNG beyond which it counts as malformed."""


def find_labels(folder: Path) -> Path | None:
    """Returns a folder that holds `img` and `ann`, or whose subfolders do."""
    return folder if _list_datasets(folder) else None


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Returns the classes of the project's meta.json, in its order; None if there is none."""
    for file in (folder / "meta.json", folder.parent / "meta.json"):
        try:
            classes = json.loads(file.read_text("utf-8-sig"))["classes"]
            return tuple(dict.fromkeys(str(entry["title"]) for entry in classes)) or None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def read_images(folder: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images of all datasets below a folder.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    for dataset in _list_datasets(folder):
        images = {file.name: file for file in list_files(dataset / "img", "*")}
        stems = {file.stem: file for file in images.values() if file.suffix.lower() in IMAGE_SUFFIXES}
        for file in list_files(dataset / "ann", "*.json"):
            content = read_json(file, issues)
            if content is None:
                continue
            if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
                issues.add(IssueKind.FILE_MALFORMED, file, "objects", None)
                continue
            path = images.get(file.stem) or stems.get(file.stem) or dataset / "img" / file.stem
            parse = partial(_parse_objects, file, content["objects"])
            yield LabeledImage(str(path.relative_to(root)), file, "image", _parse_size(content.get("size")), parse)


def _parse_objects(file: Path, entries: list[Any], issues: LabelIssues) -> Iterator[LabeledObject]:
    for index, entry in enumerate(entries):
        field = f"objects[{index}]"
        kind = entry.get("geometryType") if isinstance(entry, dict) else None
        if isinstance(kind, str) and kind in SHAPES_WITHOUT_AREA:
            skip_shape_without_area(file, field, kind, issues)
            continue
        item = _parse_object(entry, field) if isinstance(entry, dict) else None
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, entry)


def _list_datasets(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    candidates = [folder, *list_folders(folder)]
    return [path for path in candidates if (path / "img").is_dir() and (path / "ann").is_dir()]


def _parse_size(size: Any) -> tuple[int, int]:
    if isinstance(size, dict) and all(is_integer(size.get(key), MAX_INT32) for key in ("height", "width")):
        return size["height"], size["width"]
    return 0, 0


def _parse_object(entry: dict[str, Any], field: str) -> LabeledObject | None:
    """Parses a polygon, rectangle or bitmap; None if it is malformed."""
    label, kind, points = entry.get("classTitle"), entry.get("geometryType"), entry.get("points")
    if kind is None:  # exports of the first versions
        kind = "bitmap" if entry.get("bitmap") else "polygon"
    if not isinstance(label, str):
        return None
    if kind == "bitmap":
        window = _parse_bitmap(entry.get("bitmap"))
        return None if window is None else LabeledObject(label, field, windows=[window])
    if not isinstance(points, dict):
        return None
    exterior = _parse_points(points.get("exterior"))
    if not exterior:
        return None
    if kind == "rectangle":
        corners = np.reshape(exterior, (-1, 2))
        (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
        return LabeledObject(label, field, box=(x1, y1, x2, y2))
    interior = points.get("interior") or []
    holes = [_parse_points(hole) for hole in interior] if isinstance(interior, list) else [None]
    if kind != "polygon" or any(hole is None or 0 < len(hole) < MIN_NUMBERS for hole in holes):
        return None
    return LabeledObject(label, field, polygons=[exterior], holes=[hole for hole in holes if hole])


def _parse_points(points: Any) -> list[float] | None:
    pairs = [parse_numbers(point, 2) for point in points] if isinstance(points, list) else [None]
    return None if any(pair is None for pair in pairs) else [value for pair in pairs if pair for value in pair]


def _parse_bitmap(bitmap: Any) -> MaskWindow | None:
    try:
        left, top = (int(value) for value in bitmap["origin"])
        data = zlib.decompressobj().decompress(base64.b64decode(bitmap["data"]), MAX_BITMAP_BYTES)
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            channel = image.getchannel("A") if "A" in image.getbands() else image.convert("L")
            return MaskWindow(encode(np.asarray(channel) > 0), left, top)
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        binascii.Error,
        zlib.error,
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
    ):
        return None
