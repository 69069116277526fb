"""Names the first fault in COCO files, entry by entry: slow and exact, for when something is known to be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from densevision.errors import DataError

GEOMETRY = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
"""What overlaps -> the key under which an entry holds it."""

SECTIONS = ("images", "annotations", "categories")

LARGEST = 1e300

FIRST = 1 << 20
"""Characters in which the first entry of a results file ends."""


class Known(NamedTuple):
    """Ids that predictions may name."""

    image_id: set[int]
    category_id: set[int]


def examine_truth(path: Path, iou_type: str = "bbox") -> Known:
    """Reads a COCO dataset.

    Raises:
        DataError: The first fault, with its place, value and mend.
    """
    data = _read(path)
    if not isinstance(data, dict):
        mend = "Give an object with images, annotations and categories; are truth and predictions swapped?"
        raise DataError("is not a COCO dataset", file=path, value=type(data).__name__, mend=mend)
    for section in SECTIONS:
        if not isinstance(data.get(section), list):
            problem = f"is not a COCO dataset: no list of {section}"
            raise DataError(
                problem, file=path, field=section, value=data.get(section), mend=f"Write {section} as a list."
            )
    known = Known(*(_ids(path, section, data[section]) for section in ("images", "categories")))
    _ids(path, "annotations", data["annotations"])
    for entry in _entries(path, "annotations", data["annotations"]):
        entry.names(known)
        entry.shape(GEOMETRY[iou_type])
        entry.number("area", "Write the area of the mask, or width x height of the box.", least=0)
    return known


def examine_predictions(path: Path, truth: Path, iou_type: str = "bbox") -> None:
    """Reads a COCO results file.

    Raises:
        DataError: The first fault in it, or in the truth.
    """
    known = examine_truth(truth, iou_type)
    data = _read(path)
    if not isinstance(data, list):
        mend = "Give a list of {image_id, category_id, bbox, score}; are truth and predictions swapped?"
        raise DataError("is not a list of predictions", file=path, value=type(data).__name__, mend=mend)
    for entry in _entries(path, "", data):
        entry.names(known)
        entry.shape(GEOMETRY[iou_type])
        entry.number("score", "Write the confidence as a number.")


def first_prediction(path: Path) -> dict[str, Any] | None:
    """The first entry of a results file; None where there is none, or none that can be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(FIRST).lstrip()
        value, _ = json.JSONDecoder().raw_decode(text, len(text) - len(text[1:].lstrip()))
    except (OSError, ValueError):
        return None
    return value if text.startswith("[") and isinstance(value, dict) else None


class _Entry(NamedTuple):
    """One entry and its place, such as annotations[17]."""

    path: Path
    place: str
    values: dict[str, Any]

    def refuse(self, problem: str, key: str, mend: str) -> NoReturn:
        absent = key not in self.values
        found = {} if absent else {"value": self.values[key]}
        raise DataError(
            "absent" if absent else problem, file=self.path, field=f"{self.place}.{key}", mend=mend, **found
        )

    def id(self, key: str) -> int:
        value = self.values.get(key)
        if not _finite(value) or value != int(value) or value < 0:
            self.refuse("not an id", key, "Ids are whole numbers from 0.")
        return int(value)

    def names(self, known: Known) -> None:
        for key, ids in known._asdict().items():
            if self.id(key) not in ids:
                section = {"image_id": "images", "category_id": "categories"}[key]
                some = ", ".join(map(str, sorted(ids)[:5])) + (", ..." if len(ids) > 5 else "")
                self.refuse(f"no such id among the truth's {section}", key, f"Known: {some or 'none'}.")

    def number(self, key: str, mend: str, least: float = -LARGEST) -> None:
        value = self.values.get(key)
        if not _finite(value) or value < least:
            self.refuse("not a finite number" if not _finite(value) else "negative", key, mend)

    def shape(self, key: str) -> None:
        value = self.values.get(key)
        if key == "segmentation":
            if not value:
                self.refuse("no mask", key, "Write polygons or a run-length encoding.")
            return
        if key == "keypoints":
            if not isinstance(value, list) or len(value) % 3 or not all(map(_finite, value)):
                self.refuse("not three finite numbers for each keypoint", key, "Write x, y and visibility of each.")
            return
        mend = "A box is [x, y, width, height] in pixels."
        if not isinstance(value, list) or len(value) != 4 or not all(map(_finite, value)):
            self.refuse("not four finite numbers", key, mend)
        if min(value[2:]) < 0:
            self.refuse("a negative width or height", key, mend)


def _entries(path: Path, section: str, entries: list[Any]) -> Iterator[_Entry]:
    for index, values in enumerate(entries):
        place = f"{section}[{index}]"
        if not isinstance(values, dict):
            raise DataError("not an object", file=path, field=place, value=values, mend="Write it as {...}.")
        yield _Entry(path, place, values)


def _ids(path: Path, section: str, entries: list[Any]) -> set[int]:
    ids: set[int] = set()
    for entry in _entries(path, section, entries):
        if (id := entry.id("id")) in ids:
            entry.refuse("the same id twice", "id", "Number each entry once.")
        ids.add(id)
    return ids


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as failure:
        raise DataError(f"cannot be read: {failure.strerror}", file=path, mend="Check the path.") from None
    except json.JSONDecodeError as failure:
        place = f"line {failure.lineno}, column {failure.colno}"
        mend = "The file may have been cut short; write it again."
        raise DataError(f"not JSON: {failure.msg}", file=path, field=place, mend=mend) from None
    except UnicodeDecodeError:
        raise DataError("not JSON: not text", file=path, mend="Give a COCO json file.") from None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
