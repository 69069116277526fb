"""labelme: one JSON with shapes per image.

labelme writes polygons, rectangles (two points), circles, and masks of its AI tools (a PNG at the first of two points);
X-AnyLabeling writes rectangles of four points and turned ones (`rotation`); Roboflow writes polygons only. Shapes of
one `group_id` are parts of one object. `imagePath` is relative to the file and may be written on Windows, or lead to a
sibling folder. As in labelme's own converters, rectangles and circles are masks as well as boxes.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from densevision.datasets.formats.coco_lists import is_integer
from densevision.datasets.formats.coco_objects import MIN_POLYGON_POINTS
from densevision.datasets.formats.label_files import ellipse_polygon, read_head, read_json, skip_shape_without_area
from densevision.datasets.formats.labeled_objects import LabeledImage, LabeledObject, MaskWindow, place_window
from densevision.io.decode import MAX_UNCHECKED_PIXELS
from densevision.io.image_files import MAX_INT32, list_files
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues
from densevision.io.segmentations import covers_any_pixel
from densevision.ops.masks import encode
from densevision.ops.view import Size

__all__ = [
    "find_image",
    "find_labels",
    "has_area",
    "is_usable",
    "parse_polygon",
    "read_class_names",
    "read_file",
    "read_images",
]

PROBED_FILES = 5
"""JSON files of a folder that are opened to detect labelme."""
SHAPES_WITHOUT_AREA = ("line", "linestrip", "point", "points")


def find_labels(folder: Path) -> Path | None:
    """Returns a folder if most of its first JSON files are labelme's: they have a list of shapes."""
    files = list_files(folder, "*.json")[:PROBED_FILES] if folder.is_dir() else []
    return folder if 2 * sum('"shapes"' in read_head(file) for file in files) > len(files) else None


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Returns None: the classes are the labels of the shapes."""
    return None


def read_images(folder: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads a folder of labelme files; shapes of one label and group are one object.

    Lines and points are skipped with a warning. JSON files without shapes are ignored with a warning.

    Args:
        folder: The folder of the files; `imagePath` is relative to each.
        root: The folder that contains all images, and that names are relative to.
        issues: Reports problems.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    for file, entry in _read_entries(folder, issues):
        name, size = find_image(file, entry, root), _parse_stated_size(entry)
        yield LabeledImage(name, file, "imagePath", size, partial(_parse_objects, file, entry["shapes"]))


def find_image(file: Path, entry: dict[str, Any], root: Path) -> str:
    """Finds the image of a labelme file: its path relative to the root, which may not exist or be outside.

    `imagePath` is relative to the file. Backslashes are separators if no such file exists; of an absolute path only the
    name is used, for an image next to the file.
    """
    path = str(entry.get("imagePath") or f"{file.stem}.jpg")
    if not os.path.isfile(file.parent / path) and "\0" not in path:
        windows = PureWindowsPath(path)
        if windows.anchor and os.path.isfile(file.parent / windows.name):
            path = windows.name
        elif not windows.anchor:
            path = "/".join(windows.parts)
    if os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(os.path.relpath(file.parent, root), path))


def _read_entries(folder: Path, issues: LabelIssues) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the labelme files of a folder with their content; other JSON files are ignored with a warning."""
    for file in list_files(folder, "*.json"):
        content = read_json(file, issues)
        if content is None:
            continue
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            yield file, content
        else:
            issues.warn(IssueKind.FILE_IGNORED, file, action=SKIPPED)


def _parse_objects(file: Path, shapes: list[Any], issues: LabelIssues) -> Iterator[LabeledObject]:
    for index, label, parts in _group_shapes(file, shapes, issues):
        polygons = [polygon for shape in parts if (polygon := parse_polygon(shape)) is not None]
        windows = [window for shape in parts if (window := _decode_mask(shape)) is not None]
        yield LabeledObject(label, f"shapes[{index}]", polygons=polygons, windows=windows)


def _parse_stated_size(entry: dict[str, Any]) -> Size:
    """Returns the stated (height, width); 0, 0 if it is missing."""
    height, width = entry.get("imageHeight", 0), entry.get("imageWidth", 0)
    return (height, width) if is_integer(height, MAX_INT32) and is_integer(width, MAX_INT32) else (0, 0)


def _group_shapes(file: Path, shapes: list[Any], issues: LabelIssues) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """Returns the index of the first shape, the label and the shapes of each object."""
    objects: dict[Any, tuple[int, str, list[dict[str, Any]]]] = {}
    for index, shape in enumerate(shapes):
        field = f"shapes[{index}]"
        if isinstance(shape, dict) and shape.get("shape_type") in SHAPES_WITHOUT_AREA:
            skip_shape_without_area(file, field, shape["shape_type"], issues)
        elif not has_area(shape):
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, shape)
        else:
            label, group = str(shape.get("label")), shape.get("group_id")
            key = index if group is None else (label, str(group))
            objects.setdefault(key, (index, label, []))[2].append(shape)
    return list(objects.values())


def has_area(shape: Any) -> bool:
    """Whether a shape is a polygon, rectangle, circle or mask that can be read."""
    return parse_polygon(shape) is not None or _decode_mask(shape) is not None


def is_usable(shape: Any, size: Size) -> bool:
    """Whether a shape is read without an issue: it covers a pixel, or is a line or point, which are skipped."""
    if isinstance(shape, dict) and shape.get("shape_type") in SHAPES_WITHOUT_AREA:
        return True
    polygon, window = parse_polygon(shape), _decode_mask(shape)
    if window is not None:
        return bool(place_window(window, size).any())
    return polygon is not None and len(polygon) >= 2 * MIN_POLYGON_POINTS and covers_any_pixel([polygon], size)


def parse_polygon(shape: Any) -> list[float] | None:
    """Converts a shape to a polygon x y x y ...; None for masks, shapes without area and malformed ones."""
    try:
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        kind = shape.get("shape_type", "polygon")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    if kind == "polygon" or (kind in ("rectangle", "rotation") and len(points) > MIN_POLYGON_POINTS):
        return points.ravel().tolist()
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points.tolist()
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        radius = float(np.linalg.norm(points[1] - points[0]))
        x, y = points[0].tolist()
        return ellipse_polygon(x, y, radius, radius)
    return None


def _decode_mask(shape: Any) -> MaskWindow | None:
    """Decodes a mask shape: a PNG in base64 at the first of its points; None for other shapes."""
    if not isinstance(shape, dict) or shape.get("shape_type") != "mask" or not isinstance(shape.get("mask"), str):
        return None
    try:
        corner = np.rint(np.asarray(shape["points"], np.float64).reshape(-1, 2)[0]).astype(int)
        with Image.open(BytesIO(base64.b64decode(shape["mask"]))) as image:
            if image.width * image.height > MAX_UNCHECKED_PIXELS:
                return None
            pixels = np.asarray(image.convert("L")) > 0
    except Exception:  # damaged images fail in many ways, see `io.decode.wrap_decoder_errors`
        return None
    return MaskWindow(encode(pixels), int(corner[0]), int(corner[1]))


def read_file(file: Path) -> dict[str, Any] | None:
    """Reads a labelme file; None if it is not one."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    is_valid = isinstance(content, dict) and isinstance(content.get("shapes"), list)
    return content if is_valid else None
