"""COCO JSON: images, categories, and annotations with boxes.

COCO names one JSON per split `instances_*`; CVAT writes `annotations/instances_default.json`, Roboflow
`_annotations.coco.json` in the folder of each split, Label Studio `result.json` with paths that begin with `images/`
(or `images\\` on Windows), FiftyOne `labels.json` beside `data`, labelme2coco and others a file of any name. Roboflow
adds a category 0 without objects, the name of the project, of which all other categories are a kind: it is left out.
Ids may have gaps and be whole floats; `area`, `iscrowd`, `segmentation`, `width` and `height` may be missing.
"""

from __future__ import annotations

import os
from collections.abc import Container
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.coco_index import read_indexed_lists
from densevision.datasets.formats.coco_lists import FORMAT_HINT, CocoLists, is_integer, to_whole_number
from densevision.datasets.formats.orientation import find_label_orientations, orient_boxes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, StringArray, build_table
from densevision.io.foreign_names import localize_names
from densevision.io.image_files import MAX_INT32, ImageSelector, is_inside, measure_images
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = [
    "drop_placeholder",
    "is_coco",
    "list_first_files",
    "parse_categories",
    "read_categories",
    "read_coco",
    "read_panoptic_categories",
]


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
    source = read_indexed_lists(Path(file), issues)
    categories = drop_placeholder(source.categories, _list_used_ids(source), issues)
    names, ids = parse_categories(categories, source.path)
    files = source.files if folder is None else localize_names(source.files, Path(folder))
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
    return build_table(files, sizes, source.ids, records, names, ids, issues, locate, orientations)


def read_categories(file: str | os.PathLike[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Reads the names and category ids of a COCO JSON, in the order of the ids.

    Raises:
        DataError: The file is not COCO JSON, or its categories are invalid.
    """
    lists = read_indexed_lists(Path(file), LabelIssues("skip"))
    return parse_categories(drop_placeholder(lists.categories, _list_used_ids(lists)), lists.path)


def read_panoptic_categories(file: str | os.PathLike[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Reads the names and category ids of a panoptic JSON, in the order of the ids.

    Raises:
        DataError: The file is not JSON, or its categories are invalid.
    """
    entries: list[Any] = []
    used: set[Any] = set()
    for key, index, entry in stream_json(file):
        if key == "categories" and index is not None:
            entries.append(entry)
        elif key == "annotations" and index is not None and isinstance(entry, dict):
            segments = entry.get("segments_info")
            for item in segments if isinstance(segments, list) else []:
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


def _list_used_ids(lists: CocoLists) -> set[int]:
    return set(np.unique(lists.records["label"]).tolist())


def _collect_sizes(
    source: CocoLists, files: StringArray, select: ImageSelector | None, issues: LabelIssues
) -> np.ndarray:
    """Returns (n, 2) sizes: -1 if it is missing, 0 for images that are not selected or have a duplicate id."""
    sizes = np.stack([source.heights, source.widths], 1).astype(np.int32)
    sizes[(sizes <= 0).any(1)] = -1
    if select is not None:
        sizes[~select(files)] = 0
    ids = source.ids
    for row in _find_duplicates(ids).tolist():
        field = f"images[{source.image_origin[row]}].id"
        if not issues.add(IssueKind.IMAGE_ID_DUPLICATE, source.path, field, int(ids[row]), files[row]):
            sizes[row] = 0
    return sizes


def _require_sizes(source: CocoLists, sizes: np.ndarray, issues: LabelIssues) -> None:
    for row in np.flatnonzero(sizes[:, 0] < 0).tolist():
        value = [int(source.heights[row]), int(source.widths[row])]
        issues.add(IssueKind.ENTRY_MALFORMED, source.path, f"images[{source.image_origin[row]}].height", value)


def _measure(
    source: CocoLists, files: StringArray, sizes: np.ndarray, folder: Path, max_pixels: int, issues: LabelIssues
) -> np.ndarray:
    """Replaces the sizes of the JSON by those of the image files; 0 if an image cannot be used.

    Returns:
        (n,) EXIF orientations by which the labels must be turned.
    """
    for row, (name, height) in enumerate(zip(files, sizes[:, 0].tolist())):
        if height and not is_inside(name):
            field = f"images[{source.image_origin[row]}].file_name"
            if not issues.add(IssueKind.NAME_ESCAPES, source.path, field, name, name):
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


def _list_boxes(source: CocoLists) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (M, 4) xyxy of listed images as in the JSON, and the rows of their images."""
    records = source.records
    images, has_image = _find_positions(source.ids, records["image"])
    boxes = records["box"][has_image]
    with np.errstate(over="ignore", invalid="ignore"):
        boxes[:, 2:] += boxes[:, :2]
    return boxes, images[has_image]


def _resolve_records(source: CocoLists, files: StringArray, ids: tuple[int, ...], issues: LabelIssues) -> np.ndarray:
    """Replaces ids by rows and class indices, and removes boxes of unlisted images or classes."""
    records = source.records
    image_ids, category_ids = records["image"].copy(), records["label"].copy()
    annotation_ids, areas = source.annotation_ids, records["area"].copy()
    is_invalid_area = (areas < 0) | np.isinf(areas)
    records["image"], has_image = _find_positions(source.ids, image_ids)
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
