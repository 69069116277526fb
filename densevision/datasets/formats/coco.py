"""COCO json: images, categories, and annotations with boxes."""

from __future__ import annotations

import os
import struct
from array import array
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.box_table import BoxTable, Records, Strings, build_table
from densevision.io.image_files import LARGEST, Choose, is_inside, measure_images
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import Findings, Kind

LISTS = ("images", "annotations", "categories")
LAYOUT = "COCO json is an object with the lists images, annotations and categories."
IDS = ("id", "image_id", "category_id")
_CROWD = {0: False, 1: True}
_UNFIT = (KeyError, TypeError, OverflowError, struct.error)


def read_coco(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None,
    findings: Findings,
    max_pixels: int = LARGEST,
    choose: Choose | None = None,
) -> BoxTable:
    """Reads a COCO json of boxes into arrays, one entry at a time.

    Classes are in the order of their category ids, which may have gaps. An area that is not stated is the box's own.

    Args:
        file: The json.
        folder: Where its `file_name`s start; None takes the sizes that the json states and looks at no image.
        findings: Decides about what is wrong.
        max_pixels: Limit of an image.
        choose: Takes some of the images; all when not given.

    Raises:
        DataError: The file is not COCO json, or something is wrong and the policy is `fail`.
    """
    source = _read_lists(Path(file), findings)
    names, ids = _classes(source.categories, source.path)
    files = Strings.of(source.files)
    sizes = _stated_sizes(source, files, choose, findings)
    if folder is None:
        _require_sizes(source, sizes, findings)
    else:
        _measure(source, files, sizes, Path(folder), max_pixels, findings)
    records = _resolved(source, files, ids, findings)

    def where(row: int) -> tuple[str, str, list[float]]:
        x1, y1, x2, y2 = records["box"][row].tolist()
        written = [round(value, 6) for value in (x1, y1, x2 - x1, y2 - y1)]
        return str(source.path), f"annotations[{records['origin'][row]}].bbox", written

    sizes[(sizes < 0).any(1)] = 0
    return build_table(files, sizes, np.asarray(source.ids), records, names, ids, findings, where)


def read_classes(file: str | os.PathLike[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids of a COCO json, in the order of the ids.

    Raises:
        DataError: The file is not JSON, or its categories are none.
    """
    entries = [entry for key, index, entry in stream_json(file) if key == "categories" and index is not None]
    return _classes(entries, Path(file))


def first_files(file: str | os.PathLike[str], count: int) -> list[str]:
    """The first few file names that a COCO json lists.

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


class _Wrong(Exception):
    """A value that is absent or of a wrong type."""

    def __init__(self, key: str, value: Any):
        self.key, self.value = key, value


class _Source:
    """The lists of a json as they are read, column by column.

    Attributes:
        files, ids, heights, widths, image_origin: `images`; size 0 where none is stated that can be.
        records, annotation_ids: `annotations`, with the ids of image and category in place of rows and indices, and
            x, y, width, height in place of corners.
        categories: `categories`, as they are.
    """

    def __init__(self, path: Path, findings: Findings):
        self.path, self.findings = path, findings
        self.files: list[str] = []
        self.ids, self.heights, self.widths, self.image_origin = array("q"), array("i"), array("i"), array("i")
        self.records, self.annotation_ids = Records(), array("q")
        self.categories: list[Any] = []

    def take_images(self, index: int, entry: Any) -> None:
        id, name = whole(entry.get("id")), entry.get("file_name")
        if not _is_whole(id):
            raise _Wrong("id", id)
        if not isinstance(name, str):
            raise _Wrong("file_name", name)
        sides = {key: _stated_side(entry.get(key)) for key in ("height", "width")}
        for key in (key for key, side in sides.items() if side is None):
            if not self.findings.add(Kind.IMAGE_SIZE, self.path, f"images[{index}].{key}", entry[key], name):
                return
        height, width = (side or 0 for side in sides.values())
        self.files.append(name)
        for column, value in zip((self.ids, self.heights, self.widths, self.image_origin), (id, height, width, index)):
            column.append(value)

    def take_annotations(self, index: int, entry: Any) -> None:
        try:
            self._add(index, entry)
        except _UNFIT:
            try:
                self._add(index, entry | {key: whole(entry[key]) for key in IDS if key in entry})
            except _UNFIT:
                raise _explained(entry) from None

    def _add(self, index: int, entry: dict[str, Any]) -> None:
        id, area = entry.get("id", -1), entry.get("area")
        if not _is_whole(id):
            raise TypeError(id)
        crowd = _CROWD[entry.get("iscrowd", 0)]
        place = entry["image_id"], entry["category_id"], entry["bbox"]
        self.records.add(*place, index, crowd, nan if area is None else area)
        self.annotation_ids.append(id)

    def take_categories(self, index: int, entry: Any) -> None:
        self.categories.append(entry)


def whole(value: Any) -> Any:
    """A number as tables of numbers write ids, 7.0, as the whole one that it is; anything else as it is.

    >>> whole(7.0), whole(7.5), whole("7")
    (7, 7.5, '7')
    """
    return int(value) if type(value) is float and value.is_integer() else value


def _is_whole(value: Any, limit: int = LARGEST**2) -> bool:
    return type(value) is int and abs(value) <= limit


def _stated_side(value: Any) -> int | None:
    """Height or width as written, 0 where it is not stated; None where it is no whole number."""
    if value is None:
        return 0
    side = whole(value)
    return side if _is_whole(side, LARGEST) else None


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(type(number) in (int, float) for number in value)


def _explained(entry: dict[str, Any]) -> _Wrong:
    """Which value of an annotation is wrong."""
    for key, value in {"id": -1, "image_id": None, "category_id": None}.items():
        if not _is_whole(whole(entry.get(key, value))):
            return _Wrong(key, entry.get(key))
    if not _is_box(entry.get("bbox")):
        return _Wrong("bbox", entry.get("bbox"))
    key = "area" if entry.get("iscrowd", 0) in (0, 1) else "iscrowd"
    return _Wrong(key, entry.get(key))


def _read_lists(file: Path, findings: Findings) -> _Source:
    source, seen = _Source(file, findings), set()
    takers = dict(zip(LISTS, (source.take_images, source.take_annotations, source.take_categories)))
    for key, index, entry in stream_json(file):
        if key not in takers:
            continue
        if index is None:
            if entry != []:
                raise DataError("is no list", file=file, field=key, value=entry, hint=LAYOUT)
            seen.add(key)
            continue
        try:
            if type(entry) is not dict and key != "categories":
                raise _Wrong("", entry)
            takers[key](index, entry)
        except _Wrong as wrong:
            field = f"{key}[{index}].{wrong.key}".rstrip(".")
            findings.add(Kind.ENTRY_MALFORMED, file, field, wrong.value, field)
    missing = [key for key in LISTS if key not in seen]
    if missing:
        raise DataError("is not COCO json: a list is missing", file=file, field=", ".join(missing), hint=LAYOUT)
    return source


def _classes(categories: list[Any], file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids in the order of the ids. Without them no label means anything, so no policy fixes them."""
    names: dict[int, str] = {}
    for index, entry in enumerate(categories):
        id, name = (whole(entry.get("id")), entry.get("name")) if isinstance(entry, dict) else (None, None)
        field = f"categories[{index}]"
        if not _is_whole(id) or not isinstance(name, str):
            hint = "A category has an id (a whole number) and a name."
            raise DataError("is no category", file=file, field=field, value=entry, hint=hint)
        if id in names:
            hint = "Give each category an id of its own."
            raise DataError("a category id given twice", file=file, field=f"{field}.id", value=id, hint=hint)
        names[id] = name
    if not names:
        raise DataError("lists no category", file=file, field="categories", hint=LAYOUT)
    ids = tuple(sorted(names))
    return tuple(names[id] for id in ids), ids


def _stated_sizes(source: _Source, files: Strings, choose: Choose | None, findings: Findings) -> np.ndarray:
    """(n, 2) sizes: -1 where none is stated, 0 for images that are not taken or whose id an earlier one has."""
    sizes = np.stack([np.asarray(source.heights), np.asarray(source.widths)], 1).astype(np.int32)
    sizes[(sizes <= 0).any(1)] = -1
    if choose is not None:
        sizes[~choose(files)] = 0
    ids = np.asarray(source.ids)
    for row in _later_repeats(ids).tolist():
        field = f"images[{source.image_origin[row]}].id"
        if not findings.add(Kind.IMAGE_ID_TWICE, source.path, field, int(ids[row]), files[row]):
            sizes[row] = 0
    return sizes


def _require_sizes(source: _Source, sizes: np.ndarray, findings: Findings) -> None:
    for row in np.flatnonzero(sizes[:, 0] < 0).tolist():
        value = [source.heights[row], source.widths[row]]
        findings.add(Kind.ENTRY_MALFORMED, source.path, f"images[{source.image_origin[row]}].height", value)


def _measure(
    source: _Source, files: Strings, sizes: np.ndarray, folder: Path, max_pixels: int, findings: Findings
) -> None:
    """Puts the images' own sizes in the place of the stated ones; 0 where an image cannot be used."""
    for row in np.flatnonzero(sizes[:, 0]).tolist():
        name, field = files[row], f"images[{source.image_origin[row]}].file_name"
        if not is_inside(name) and not findings.add(Kind.NAME_ESCAPES, source.path, field, name, name):
            sizes[row] = 0

    def listed(row: int) -> tuple[str, str]:
        return str(source.path), f"images[{source.image_origin[row]}].file_name"

    own = measure_images(files, folder, sizes[:, 0] != 0, findings, max_pixels, listed)
    for row in np.flatnonzero((own > 0).all(1) & (sizes > 0).all(1) & (own != sizes).any(1)).tolist():
        (height, width), (real_height, real_width) = sizes[row].tolist(), own[row].tolist()
        value = f"{width} x {height} stated, {real_width} x {real_height} found"
        if not findings.add(Kind.IMAGE_SIZE, source.path, f"images[{source.image_origin[row]}]", value, files[row]):
            own[row] = 0
    sizes[:] = own


def _resolved(source: _Source, files: Strings, ids: tuple[int, ...], findings: Findings) -> np.ndarray:
    """The boxes with rows, indices and corners, without those of no listed image or class."""
    records = source.records.array()
    image_ids, category_ids = records["image"].copy(), records["label"].copy()
    annotation_ids, areas = np.asarray(source.annotation_ids), records["area"].copy()
    impossible = (areas < 0) | np.isinf(areas)
    records["image"], known_image = _positions(np.asarray(source.ids), image_ids)
    records["label"], known_class = _positions(np.asarray(ids), category_ids)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found and named with the boxes
        records["box"][:, 2:] += records["box"][:, :2]
    repeats = _later_repeats(annotation_ids)
    keep = np.ones(len(records), bool)
    for kind, key, rows, values in (
        (Kind.IMAGE_ID_ABSENT, "image_id", np.flatnonzero(~known_image), image_ids),
        (Kind.CLASS_ABSENT, "category_id", np.flatnonzero(~known_class), category_ids),
        (Kind.ANNOTATION_ID_TWICE, "id", repeats[annotation_ids[repeats] >= 0], annotation_ids),
        (Kind.AREA_IMPOSSIBLE, "area", np.flatnonzero(impossible), areas),
    ):
        for row in rows[keep[rows]].tolist():
            field = f"annotations[{records['origin'][row]}].{key}"
            about = files[int(records["image"][row])] if known_image[row] else field
            keep[row] = findings.add(kind, source.path, field, values[row].item(), about)
    records["area"][impossible] = nan
    return records if keep.all() else records[keep]


def _later_repeats(ids: np.ndarray) -> np.ndarray:
    """Rows whose id an earlier row has."""
    order = np.argsort(ids, kind="stable")
    return np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])


def _positions(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of `known` that holds each wanted value, and whether there is one."""
    if not len(known):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(known, kind="stable")
    rows = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    return rows, known[rows] == wanted
