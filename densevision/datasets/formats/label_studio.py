"""Label Studio: JSON or JSON-MIN, one file with all tasks.

JSON has `annotations` (`completions` before version 1) of `result` entries, JSON-MIN has lists of regions under the
names of the labeling config. Numbers are percent of the image; boxes may be turned around their first corner; brushes
are run lengths of RGBA pixels in Label Studio's own bit format. Images are named by upload
(`/data/upload/1/ab12cd34-a.jpg`), by local storage (`/data/local-files/?d=folder/a.jpg`) or by cloud addresses; the
file below the dataset of the same name, with or without the eight digits before it, is taken. Of several annotations of
a task the first that was not cancelled is read. Boxes have no mask. Label Studio's exports to COCO (`result.json`),
YOLO and Pascal VOC are read as these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from densevision.datasets.formats.coco_lists import is_integer
from densevision.datasets.formats.label_files import (
    ellipse_polygon,
    parse_numbers,
    read_head,
    read_json,
    rectangle_polygon,
    skip_shape_without_area,
)
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject, MaskWindow
from densevision.io.image import MAX_PIXELS
from densevision.io.image_files import IMAGE_SUFFIXES, MAX_INT32, list_files
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import encode

__all__ = ["decode_brush", "encode_brush", "find_labels", "read_class_names", "read_images"]

LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels")
SHAPES_WITHOUT_AREA = ("keypointlabels", "keypoint", "vectorlabels")
UPLOAD_PREFIX = re.compile("[0-9a-f]{8}-")
CHANNELS = 4
"""Channels of a brush's pixels; the last one is its mask."""


def find_labels(folder: Path) -> Path | None:
    """Finds the JSON of a folder."""
    files = [folder] if folder.is_file() else list_files(folder, "*.json") if folder.is_dir() else []
    return next((file for file in files if file.suffix == ".json" and _is_label_studio(file)), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns None: the classes are those of the regions."""
    return None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the tasks of a JSON.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    lookup, tasks = ImageLookup(root), read_json(file, issues)
    if not isinstance(tasks, list):
        if tasks is not None:
            issues.add(IssueKind.FILE_MALFORMED, file, None, "no list of tasks")
        return
    for index, task in enumerate(tasks):
        name, results = _parse_task(task) if isinstance(task, dict) else (None, [])
        if name is None:
            issues.add(IssueKind.ENTRY_MALFORMED, file, f"[{index}]", task)
            continue
        sizes = [_parse_size(region) for _, region in results if isinstance(region, dict)]
        size = next((size for size in sizes if size[0]), (0, 0))
        parse = partial(_parse_objects, file, index, results)
        yield LabeledImage(_find_image(lookup, name), file, f"[{index}]", size, parse, is_relative=True)


def _parse_objects(
    file: Path, task: int, results: list[tuple[str, Any]], issues: LabelIssues
) -> Iterator[LabeledObject]:
    for place, region in results:
        field = f"[{task}].{place}"
        value, kind = _get_value(region)
        if kind in SHAPES_WITHOUT_AREA:
            skip_shape_without_area(file, field, str(kind), issues)
        elif not isinstance(region, dict) or any(key in value for key in LABEL_KEYS):
            item = _parse_region(value, _parse_size(region), field) if isinstance(region, dict) else None
            if item is not None:
                yield item
            else:
                issues.add(IssueKind.ENTRY_MALFORMED, file, field, region)
        # Other regions answer other questions, such as a choice or a text.


def decode_brush(numbers: Sequence[int], size: tuple[int, int]) -> np.ndarray | None:
    """Decodes the run lengths of a brush.

    Bits, most significant first: 32 of the count of values, 5 of the bits of a value less 1, four times 4 of the
    bits of a length less 1; then runs: 1 bit, whether one value follows for all, 2 of the size of the length, the
    length less 1, and the value or the values. (rle-pack of thi.ng/umbrella, which Label Studio uses.)

    Args:
        numbers: Bytes.
        size: (height, width) of the image.

    Returns:
        (height, width) bool; None if the bytes do not describe an image of this size.
    """
    count = size[0] * size[1] * CHANNELS
    try:
        bits = np.unpackbits(np.frombuffer(bytes(numbers), np.uint8))
    except (TypeError, ValueError):
        return None
    position = 0

    def read(length: int, repeat: int = 1) -> np.ndarray:
        nonlocal position
        position += length * repeat
        if position > len(bits):
            raise EOFError
        return bits[position - length * repeat : position].reshape(repeat, length) @ (1 << np.arange(length)[::-1])

    values, start = np.zeros(count, bool), 0
    try:
        if read(32)[0] != count:
            return None
        value_bits, length_bits = int(read(5)[0]) + 1, [int(read(4)[0]) + 1 for _ in range(4)]
        while start < count:
            is_run = read(1)[0]
            stop = min(count, start + 1 + int(read(length_bits[int(read(2)[0])])[0]))
            values[start:stop] = read(value_bits, 1 if is_run else stop - start) > 0
            start = stop
    except EOFError:
        return None
    return values.reshape(*size, CHANNELS)[..., -1]


def encode_brush(mask: np.ndarray) -> list[int]:
    """Encodes a mask (height, width) bool as a brush; see `decode_brush`. All runs have one value.

    >>> mask = np.eye(3, dtype=bool)
    >>> np.array_equal(decode_brush(encode_brush(mask), mask.shape), mask)
    True
    """
    values = np.repeat(mask.ravel(), CHANNELS)
    starts = np.flatnonzero(np.diff(values, prepend=not values[0]))
    length_bits = (3, 5, 9, 16)
    parts = [f"{values.size:032b}{8 - 1:05b}", *(f"{bits - 1:04b}" for bits in length_bits)]
    for start, count in zip(starts.tolist(), np.diff(starts, append=values.size).tolist()):
        value = f"{255 * int(values[start]):08b}"
        while count:
            length = min(count, 1 << length_bits[-1])
            row = next(row for row, bits in enumerate(length_bits) if length <= 1 << bits)
            parts.append(f"1{row:02b}{length - 1:0{length_bits[row]}b}{value}")
            count -= length
    bits = "".join(parts)
    return np.packbits(np.frombuffer(bits.encode("ascii"), np.uint8) - ord("0")).tolist()


def _is_label_studio(file: Path) -> bool:
    head = read_head(file)
    keys = ('"annotations"', '"completions"', '"original_width"')
    return head.lstrip().startswith("[") and '"id"' in head and any(key in head for key in keys)


def _parse_task(task: dict[str, Any]) -> tuple[str | None, list[tuple[str, Any]]]:
    """Returns the address of a task's image, and its regions with their places."""
    data = task.get("data", task)
    addresses = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    name = next((value for value in addresses if _get_path(value).lower().endswith(IMAGE_SUFFIXES)), None)
    if "data" not in task:  # JSON-MIN
        fields = {key: value for key, value in task.items() if isinstance(value, list)}
        return name, [(f"{key}[{row}]", region) for key, value in fields.items() for row, region in enumerate(value)]
    annotations = task.get("annotations", task.get("completions"))
    for index, entry in enumerate(annotations if isinstance(annotations, list) else []):
        result = entry.get("result") if isinstance(entry, dict) else None
        if isinstance(result, list) and not entry.get("was_cancelled"):
            return name, [(f"annotations[{index}].result[{row}]", region) for row, region in enumerate(result)]
    return name, []


def _get_path(address: str) -> str:
    """Returns the path of an image address, without its host and query."""
    parts = urlsplit(address.replace("\\", "/"))
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _find_image(lookup: ImageLookup, address: str) -> str:
    path = _get_path(address).lstrip("/")
    folder, _, name = path.rpartition("/")
    shortened = UPLOAD_PREFIX.sub("", name, count=1)
    for candidate in (path, f"{folder}/{shortened}", name, shortened):
        found = lookup.find(candidate)
        if os.path.isfile(lookup.root / found) and found != "":
            return found
    return name


def _get_value(region: Any) -> tuple[dict[str, Any], str | None]:
    """Returns the value and the type of a region; in JSON-MIN the region is the value."""
    if not isinstance(region, dict):
        return {}, None
    value, kind = region.get("value", region), region.get("type")
    value = value if isinstance(value, dict) else {}
    return value, kind if isinstance(kind, str) else "keypointlabels" if "keypointlabels" in value else None


def _parse_size(region: dict[str, Any]) -> tuple[int, int]:
    height, width = region.get("original_height"), region.get("original_width")
    return (height, width) if is_integer(height, MAX_INT32) and is_integer(width, MAX_INT32) else (0, 0)  # type: ignore[return-value]


def _parse_region(value: dict[str, Any], size: tuple[int, int], field: str) -> LabeledObject | None:
    """Parses a region to fractions of the image; None if it is malformed."""
    key = next((key for key in LABEL_KEYS if key in value), None)
    labels = value.get(key) if key else None
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        return None
    label = labels[0]
    if key == "brushlabels":
        height, width = size
        if min(size) < 1 or height * width > MAX_PIXELS or not isinstance(value.get("rle"), list):
            return None
        mask = decode_brush(value["rle"], size)
        return None if mask is None else LabeledObject(label, field, windows=[MaskWindow(encode(mask), 0, 0)])
    if key == "polygonlabels":
        points = value.get("points")
        pairs = [parse_numbers(point, 2) for point in points] if isinstance(points, list) else [None]
        if any(pair is None for pair in pairs):
            return None
        return LabeledObject(label, field, polygons=[[number / 100 for pair in pairs if pair for number in pair]])
    angle = parse_numbers([value.get("rotation", 0) or 0])
    keys = ("x", "y", "width", "height") if key == "rectanglelabels" else ("x", "y", "radiusX", "radiusY")
    numbers = parse_numbers([value.get(name) for name in keys])
    if numbers is None or angle is None:
        return None
    x, y, horizontal, vertical = numbers
    if key == "rectanglelabels" and angle[0] % 360 == 0:
        box = (x / 100, y / 100, (x + horizontal) / 100, (y + vertical) / 100)
        return LabeledObject(label, field, box=box)
    # Angles are those of pixels, not of percents.
    per_row, per_column = (side / 100 for side in size) if min(size) > 0 else (1.0, 1.0)
    build = rectangle_polygon if key == "rectanglelabels" else ellipse_polygon
    polygon = build(x * per_column, y * per_row, horizontal * per_column, vertical * per_row, angle[0])
    points = np.reshape(polygon, (-1, 2)) / [per_column * 100, per_row * 100]
    return LabeledObject(label, field, polygons=[points.ravel().tolist()])
