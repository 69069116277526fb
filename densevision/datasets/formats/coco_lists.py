"""The lists of a COCO JSON in columns: read block by block, checked entry by entry where anything is unusual."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from densevision.errors import DataError
from densevision.io.box_table import RECORD, RecordBuffer, StringArray
from densevision.io.image_files import MAX_INT32
from densevision.io.json_stream import Block, stream_json_blocks
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["FORMAT_HINT", "LISTS", "CocoLists", "is_integer", "read_lists", "to_whole_number"]

LISTS = ("images", "annotations", "categories")
FORMAT_HINT = "COCO JSON is an object with the lists images, annotations and categories."
ID_KEYS = ("id", "image_id", "category_id")
MAX_ID = MAX_INT32**2
_CROWD = {0: False, 1: True}
_TYPE_ERRORS = (KeyError, TypeError, OverflowError, struct.error)


@dataclass(frozen=True, eq=False)
class CocoLists:
    """The lists of a JSON in columns.

    Attributes:
        path: The JSON.
        files: (n,) names of the images, as in the JSON.
        ids, heights, widths, image_origin: (n,) int64, int32, int32, int32; size 0 if it is missing; the place in the
            list.
        records: (M,) of RECORD; with ids of image and category instead of rows and indices, and x, y, width, height
            instead of corners.
        annotation_ids: (M,) int64; -1 if it is missing.
        categories: `categories`, unchanged.
    """

    path: Path
    files: StringArray
    ids: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    image_origin: np.ndarray
    records: np.ndarray
    annotation_ids: np.ndarray
    categories: list[Any]


def read_lists(file: Path, issues: LabelIssues) -> CocoLists:
    """Reads the lists of a COCO JSON.

    Args:
        file: The JSON.
        issues: Reports entries with a missing value or one of a wrong type.

    Raises:
        DataError: The file is not COCO JSON, or an entry is invalid and the policy is `fail`.
    """
    columns, keys = _Columns(file, issues), set()
    add_entry = dict(zip(LISTS, (columns.add_image, columns.add_annotation, columns.add_category)))
    add_block: dict[str, Callable[[int, list[Any]], None]] = {
        "images": columns.add_images,
        "annotations": columns.add_annotations,
    }
    for item in stream_json_blocks(file, _DECODERS):
        if isinstance(item, Block):
            add_block[item.key](item.start, item.values)
            continue
        key, index, entry = item
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
    return columns.build()


def to_whole_number(value: Any) -> Any:
    """Converts an integral float, as spreadsheets write ids, to an int; other values are unchanged.

    >>> to_whole_number(7.0), to_whole_number(7.5), to_whole_number("7")
    (7, 7.5, '7')
    """
    return int(value) if type(value) is float and value.is_integer() else value


def is_integer(value: Any, limit: int = MAX_ID) -> bool:
    """Whether a value is an int of limited size, as ids are."""
    return type(value) is int and abs(value) <= limit


_Id = Annotated[int, msgspec.Meta(ge=-MAX_ID, le=MAX_ID)]
_Side = Annotated[int, msgspec.Meta(ge=-MAX_INT32, le=MAX_INT32)]


class _UsualImage(msgspec.Struct, gc=False):
    """An image whose values have the usual types; entries with others are read one by one."""

    id: _Id
    file_name: str
    height: _Side | None = None
    width: _Side | None = None


class _UsualAnnotation(msgspec.Struct, gc=False):
    """An annotation whose values have the usual types."""

    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    id: _Id = -1
    area: float | None = None
    iscrowd: Literal[0, 1] = 0


def _build_decoder(entry_type: type) -> Callable[[str], list[Any] | None]:
    decode = msgspec.json.Decoder(list[entry_type]).decode  # type: ignore[valid-type]

    def decode_usual(text: str) -> list[Any] | None:
        try:
            return decode(text)
        except (ValueError, RecursionError):  # msgspec's errors, and lone surrogates: `read_lists` reads these entries
            return None

    return decode_usual


_DECODERS = {"images": _build_decoder(_UsualImage), "annotations": _build_decoder(_UsualAnnotation)}


class _InvalidValueError(Exception):
    """A value is missing or has the wrong type."""

    def __init__(self, key: str, value: Any):
        self.key, self.value = key, value


class _Columns:
    """Collects the columns of `CocoLists`, from single entries as `json` reads them and from blocks of usual ones."""

    def __init__(self, path: Path, issues: LabelIssues):
        self.path, self.issues = path, issues
        self.files: list[str] = []
        self.ids, self.heights, self.widths, self.image_origin = array("q"), array("i"), array("i"), array("i")
        self.records, self.annotation_ids = RecordBuffer(), array("q")
        self.categories: list[Any] = []

    def build(self) -> CocoLists:
        return CocoLists(
            path=self.path,
            files=StringArray.of(self.files),
            ids=np.asarray(self.ids),
            heights=np.asarray(self.heights),
            widths=np.asarray(self.widths),
            image_origin=np.asarray(self.image_origin),
            records=self.records.array(),
            annotation_ids=np.asarray(self.annotation_ids),
            categories=self.categories,
        )

    def add_images(self, start: int, images: list[_UsualImage]) -> None:
        self.files += [image.file_name for image in images]
        self.ids.extend([image.id for image in images])
        self.heights.extend([image.height or 0 for image in images])
        self.widths.extend([image.width or 0 for image in images])
        self.image_origin.extend(range(start, start + len(images)))

    def add_annotations(self, start: int, annotations: list[_UsualAnnotation]) -> None:
        records = np.empty(len(annotations), RECORD)
        records["image"] = [entry.image_id for entry in annotations]
        records["label"] = [entry.category_id for entry in annotations]
        records["box"] = [entry.bbox for entry in annotations]
        records["area"] = [nan if entry.area is None else entry.area for entry in annotations]
        records["crowd"] = [entry.iscrowd for entry in annotations]
        records["origin"] = np.arange(start, start + len(annotations))
        self.records.extend(records)
        self.annotation_ids.extend([entry.id for entry in annotations])

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
