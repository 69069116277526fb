"""COCO JSON: images, categories, and annotations with boxes.

COCO names one JSON per split `instances_*`; CVAT writes `annotations/instances_default.json`, Roboflow
`_annotations.coco.json` in the folder of each split, Label Studio `result.json` with paths that begin with `images/`
(or `images\\` on Windows), FiftyOne `labels.json` beside `data`, labelme2coco and others a file of any name. Roboflow
adds a category 0 without objects, the name of the project, of which all other categories are a kind: it is left out.
Ids may have gaps and be whole floats; `area`, `iscrowd`, `segmentation`, `width` and `height` may be missing.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Container
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.orientation import find_label_orientations, orient_boxes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import MAX_INT32, ImageSelector, is_inside, measure_images
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = [
    "drop_placeholder",
    "is_coco",
    "is_integer",
    "list_first_files",
    "parse_categories",
    "read_categories",
    "read_coco",
    "to_whole_number",
]

LISTS = ("images", "annotations", "categories")
FORMAT_HINT = "COCO JSON is an object with the lists images, annotations and categories."
ID_KEYS = ("id", "image_id", "category_id")
_CROWD = {0: False, 1: True}
_TYPE_ERRORS = (KeyError, TypeError, OverflowError, struct.error)


def read_coco(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    issues: LabelIssues,
    max_pixels: int = MAX_INT32,
    select: ImageSelector | None = None,
) -> BoxTable:
    """Reads the boxes of a COCO JSON into arrays, one entry at a time.

    Classes are in the order of their category ids, which may have gaps. A missing area is that of the box.

    Args:
        file: The JSON.
        folder: The folder that `file_name`s are relative to; None uses the sizes in the JSON and opens no image.
        issues: Reports problems.
        max_pixels: Larger images count as broken.
        select: Selects a part of the images; all by default.

    Raises:
        DataError: The file is not COCO JSON, or something is wrong and the policy is `fail`.
    """
    source = _read_lists(Path(file), issues)
    categories = drop_placeholder(source.categories, set(source.records.array()["label"].tolist()), issues)
    names, ids = parse_categories(categories, source.path)
    files = StringArray.of(
        source.files if folder is None else (localize_name(name, Path(folder)) for name in source.files)
    )
    sizes = _collect_sizes(source, files, select, issues)
    if folder is None:
        _require_sizes(source, sizes, issues)
        orientations = np.ones(len(files), np.uint8)
    else:
        orientations = _measure(source, files, sizes, Path(folder), max_pixels, issues)
    records = _resolve_records(source, files, ids, issues)
    rows = records["image"]
    records["box"] = orient_boxes(records["box"], orientations[rows], sizes[rows])

    def locate(row: int) -> tuple[str, str, list[float]]:
        x1, y1, x2, y2 = records["box"][row].tolist()
        xywh = [round(value, 6) for value in (x1, y1, x2 - x1, y2 - y1)]
        return str(source.path), f"annotations[{records['origin'][row]}].bbox", xywh

    sizes[(sizes < 0).any(1)] = 0
    return build_table(files, sizes, np.asarray(source.ids), records, names, ids, issues, locate, orientations)


def read_categories(file: str | os.PathLike[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Reads the names and category ids of a COCO JSON, in the order of the ids.

    Raises:
        DataError: The file is not JSON, or its categories are invalid.
    """
    entries: list[Any] = []
    used: set[Any] = set()
    for key, index, entry in stream_json(file):
        if key == "categories" and index is not None:
            entries.append(entry)
        elif key == "annotations" and index is not None and isinstance(entry, dict):
            segments = entry.get("segments_info")  # of panoptic JSON
            for item in segments if isinstance(segments, list) else [entry]:
                category_id = to_whole_number(item.get("category_id")) if isinstance(item, dict) else None
                used.update([category_id] if is_integer(category_id) else [])
    return parse_categories(drop_placeholder(entries, used), Path(file))


def drop_placeholder(categories: list[Any], used_ids: Container[int], issues: LabelIssues | None = None) -> list[Any]:
    """Leaves out the category that Roboflow adds: id 0, without objects, and the super category of all others.

    Args:
        categories: The entries of a JSON.
        used_ids: Category ids of its annotations.
        issues: Gets a note if a category is left out.
    """
    entries = [entry for entry in categories if isinstance(entry, dict)]
    first = next((entry for entry in entries if entry.get("id") == 0), None)
    others = [entry for entry in entries if entry is not first]
    if first is None or not others or 0 in used_ids or first.get("supercategory") not in (None, "none", ""):
        return categories
    if not all(entry.get("supercategory") == first.get("name") for entry in others):
        return categories
    if issues is not None:
        issues.add_note(f"category 0, {first.get('name')}, is only the super category of the others and left out")
    return [entry for entry in categories if entry is not first]


def is_coco(file: str | os.PathLike[str]) -> bool:
    """Whether a JSON has a list of images or annotations, even if the rest of the file is damaged."""
    try:
        return any(key in ("images", "annotations") and entry == [] for key, _, entry in stream_json(file))
    except DataError:
        return False


def list_first_files(file: str | os.PathLike[str], count: int) -> list[str]:
    """Lists the first `count` file names of a COCO JSON.

    Raises:
        DataError: The file is not JSON.
    """
    names: list[str] = []
    for key, index, entry in stream_json(file):
        if key == "images" and index is not None and isinstance(entry, dict):
            names.append(str(entry.get("file_name")))
            if len(names) == count:
                break
    return names


class _InvalidValueError(Exception):
    """A value is missing or has the wrong type."""

    def __init__(self, key: str, value: Any):
        self.key, self.value = key, value


class _Source:
    """The lists of a JSON in columns.

    Attributes:
        files, ids, heights, widths, image_origin: `images`; size 0 if it is missing.
        records, annotation_ids: `annotations`, with ids of image and category instead of rows and indices, and
            x, y, width, height instead of corners.
        categories: `categories`, unchanged.
    """

    def __init__(self, path: Path, issues: LabelIssues):
        self.path, self.issues = path, issues
        self.files: list[str] = []
        self.ids, self.heights, self.widths, self.image_origin = array("q"), array("i"), array("i"), array("i")
        self.records, self.annotation_ids = RecordBuffer(), array("q")
        self.categories: list[Any] = []

    def add_image(self, index: int, entry: Any) -> None:
        image_id, name = to_whole_number(entry.get("id")), entry.get("file_name")
        if not is_integer(image_id):
            raise _InvalidValueError("id", image_id)
        if not isinstance(name, str):
            raise _InvalidValueError("file_name", name)
        sides = {key: _parse_side(entry.get(key)) for key in ("height", "width")}
        for key in (key for key, side in sides.items() if side is None):
            if not self.issues.add(IssueKind.IMAGE_SIZE, self.path, f"images[{index}].{key}", entry[key], name):
                return
        height, width = (side or 0 for side in sides.values())
        self.files.append(name)
        for column, value in zip(
            (self.ids, self.heights, self.widths, self.image_origin), (image_id, height, width, index)
        ):
            column.append(value)

    def add_annotation(self, index: int, entry: Any) -> None:
        try:
            self._add_record(index, entry)
        except _TYPE_ERRORS:
            try:
                self._add_record(index, entry | {key: to_whole_number(entry[key]) for key in ID_KEYS if key in entry})
            except _TYPE_ERRORS:
                raise _explain_failure(entry) from None

    def _add_record(self, index: int, entry: dict[str, Any]) -> None:
        annotation_id, area = entry.get("id", -1), entry.get("area")
        if not is_integer(annotation_id):
            raise TypeError(annotation_id)
        crowd = _CROWD[entry.get("iscrowd", 0)]
        box = entry["image_id"], entry["category_id"], entry["bbox"]
        self.records.add(*box, index, crowd, nan if area is None else area)
        self.annotation_ids.append(annotation_id)

    def add_category(self, index: int, entry: Any) -> None:
        self.categories.append(entry)


def to_whole_number(value: Any) -> Any:
    """Converts an integral float, as spreadsheets write ids, to an int; other values are unchanged.

    >>> to_whole_number(7.0), to_whole_number(7.5), to_whole_number("7")
    (7, 7.5, '7')
    """
    return int(value) if type(value) is float and value.is_integer() else value


def is_integer(value: Any, limit: int = MAX_INT32**2) -> bool:
    """Whether a value is an int of limited size, as ids are."""
    return type(value) is int and abs(value) <= limit


def _parse_side(value: Any) -> int | None:
    """Parses a height or width: 0 if it is missing, None if it is not an integer."""
    if value is None:
        return 0
    side = to_whole_number(value)
    return side if is_integer(side, MAX_INT32) else None


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(type(number) in (int, float) for number in value)


def _explain_failure(entry: dict[str, Any]) -> _InvalidValueError:
    """Finds the invalid value of an annotation."""
    for key, value in {"id": -1, "image_id": None, "category_id": None}.items():
        if not is_integer(to_whole_number(entry.get(key, value))):
            return _InvalidValueError(key, entry.get(key))
    if not _is_box(entry.get("bbox")):
        return _InvalidValueError("bbox", entry.get("bbox"))
    key = "area" if entry.get("iscrowd", 0) in (0, 1) else "iscrowd"
    return _InvalidValueError(key, entry.get(key))


def _read_lists(file: Path, issues: LabelIssues) -> _Source:
    source, keys = _Source(file, issues), set()
    add_entry = dict(zip(LISTS, (source.add_image, source.add_annotation, source.add_category)))
    for key, index, entry in stream_json(file):
        if key not in add_entry:
            continue
        if index is None:
            if entry != []:
                raise DataError("is not a list", file=file, field=key, value=entry, hint=FORMAT_HINT)
            keys.add(key)
            continue
        try:
            if type(entry) is not dict and key != "categories":
                raise _InvalidValueError("", entry)
            add_entry[key](index, entry)
        except _InvalidValueError as failure:
            field = f"{key}[{index}].{failure.key}".rstrip(".")
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, failure.value, field)
    missing = [key for key in LISTS if key not in keys]
    if missing:
        raise DataError("is not COCO JSON: a list is missing", file=file, field=", ".join(missing), hint=FORMAT_HINT)
    return source


def parse_categories(categories: list[Any], file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns names and ids in the order of the ids; invalid categories are an error under every policy."""
    names: dict[int, str] = {}
    for index, entry in enumerate(categories):
        values = entry if isinstance(entry, dict) else {}
        category_id, name = to_whole_number(values.get("id")), values.get("name")
        field = f"categories[{index}]"
        if not is_integer(category_id) or not isinstance(name, str):
            hint = "A category has an id (an integer) and a name."
            raise DataError("is not a category", file=file, field=field, value=entry, hint=hint)
        if category_id in names:
            hint = "Give each category a unique id."
            raise DataError("a category id given twice", file=file, field=f"{field}.id", value=category_id, hint=hint)
        names[category_id] = name
    if not names:
        raise DataError("lists no category", file=file, field="categories", hint=FORMAT_HINT)
    ids = tuple(sorted(names))
    return tuple(names[category_id] for category_id in ids), ids


def _collect_sizes(
    source: _Source, files: StringArray, select: ImageSelector | None, issues: LabelIssues
) -> np.ndarray:
    """Returns (n, 2) sizes: -1 if it is missing, 0 for images that are not selected or have a duplicate id."""
    sizes = np.stack([np.asarray(source.heights), np.asarray(source.widths)], 1).astype(np.int32)
    sizes[(sizes <= 0).any(1)] = -1
    if select is not None:
        sizes[~select(files)] = 0
    ids = np.asarray(source.ids)
    for row in _find_duplicates(ids).tolist():
        field = f"images[{source.image_origin[row]}].id"
        if not issues.add(IssueKind.IMAGE_ID_DUPLICATE, source.path, field, int(ids[row]), files[row]):
            sizes[row] = 0
    return sizes


def _require_sizes(source: _Source, sizes: np.ndarray, issues: LabelIssues) -> None:
    for row in np.flatnonzero(sizes[:, 0] < 0).tolist():
        value = [source.heights[row], source.widths[row]]
        issues.add(IssueKind.ENTRY_MALFORMED, source.path, f"images[{source.image_origin[row]}].height", value)


def _measure(
    source: _Source, files: StringArray, sizes: np.ndarray, folder: Path, max_pixels: int, issues: LabelIssues
) -> np.ndarray:
    """Replaces the sizes of the JSON by those of the image files; 0 if an image cannot be used.

    Returns:
        (n,) EXIF orientations by which the labels must be turned.
    """
    for row in np.flatnonzero(sizes[:, 0]).tolist():
        name, field = files[row], f"images[{source.image_origin[row]}].file_name"
        if not is_inside(name) and not issues.add(IssueKind.NAME_ESCAPES, source.path, field, name, name):
            sizes[row] = 0

    def locate(row: int) -> tuple[str, str]:
        return str(source.path), f"images[{source.image_origin[row]}].file_name"

    file_sizes = measure_images(files, folder, sizes[:, 0] != 0, issues, max_pixels, locate)
    orientations = find_label_orientations(files, folder, sizes, file_sizes, lambda: _list_boxes(source), issues)
    stated = np.where(orientations[:, None] >= 5, sizes[:, ::-1], sizes)
    for row in np.flatnonzero((file_sizes > 0).all(1) & (stated > 0).all(1) & (file_sizes != stated).any(1)).tolist():
        (height, width), (file_height, file_width) = sizes[row].tolist(), file_sizes[row].tolist()
        value = f"{width} x {height} stated, the file has {file_width} x {file_height}"
        if not issues.add(IssueKind.IMAGE_SIZE, source.path, f"images[{source.image_origin[row]}]", value, files[row]):
            file_sizes[row] = 0
    sizes[:] = file_sizes
    return orientations


def _list_boxes(source: _Source) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (M, 4) xyxy of listed images as in the JSON, and the rows of their images."""
    records = source.records.array()
    images, has_image = _find_positions(np.asarray(source.ids), records["image"])
    boxes = records["box"][has_image]
    with np.errstate(over="ignore", invalid="ignore"):
        boxes[:, 2:] += boxes[:, :2]
    return boxes, images[has_image]


def _resolve_records(source: _Source, files: StringArray, ids: tuple[int, ...], issues: LabelIssues) -> np.ndarray:
    """Replaces ids by rows and class indices, and removes boxes of unlisted images or classes."""
    records = source.records.array()
    image_ids, category_ids = records["image"].copy(), records["label"].copy()
    annotation_ids, areas = np.asarray(source.annotation_ids), records["area"].copy()
    is_invalid_area = (areas < 0) | np.isinf(areas)
    records["image"], has_image = _find_positions(np.asarray(source.ids), image_ids)
    records["label"], has_class = _find_positions(np.asarray(ids), category_ids)
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite boxes are reported by build_table
        records["box"][:, 2:] += records["box"][:, :2]
    duplicates = _find_duplicates(annotation_ids)
    keep = np.ones(len(records), bool)
    for kind, key, rows, values in (
        (IssueKind.IMAGE_ID_ABSENT, "image_id", np.flatnonzero(~has_image), image_ids),
        (IssueKind.CLASS_ABSENT, "category_id", np.flatnonzero(~has_class), category_ids),
        (IssueKind.ANNOTATION_ID_DUPLICATE, "id", duplicates[annotation_ids[duplicates] >= 0], annotation_ids),
        (IssueKind.AREA_IMPOSSIBLE, "area", np.flatnonzero(is_invalid_area), areas),
    ):
        for row in rows[keep[rows]].tolist():
            field = f"annotations[{records['origin'][row]}].{key}"
            subject = files[int(records["image"][row])] if has_image[row] else field
            keep[row] = issues.add(kind, source.path, field, values[row].item(), subject)
    records["area"][is_invalid_area] = nan
    return records if keep.all() else records[keep]


def _find_duplicates(ids: np.ndarray) -> np.ndarray:
    """Returns the rows whose id equals that of an earlier row."""
    order = np.argsort(ids, kind="stable")
    return np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])


def _find_positions(values: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first row of `values` that equals each query, and whether there is one."""
    if not len(values):
        return np.zeros(len(queries), np.int64), np.zeros(len(queries), bool)
    order = np.argsort(values, kind="stable")
    rows = order[np.searchsorted(values[order], queries).clip(max=len(values) - 1)]
    return rows, values[rows] == queries
