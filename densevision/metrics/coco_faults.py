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
    """Ids that entries may name, and what their geometry must fit.

    Attributes:
        image_id: Of the pictures.
        category_id: Of the categories.
        sizes: Picture -> (height, width), as far as it is stated.
        joints: Category -> number of its keypoints, as far as it is stated.
    """

    image_id: set[int]
    category_id: set[int]
    sizes: dict[int, tuple[int, int]]
    joints: dict[int, int]


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
    images, categories = (_ids(path, section, data[section]) for section in ("images", "categories"))
    sizes = {entry["id"]: (entry.get("height"), entry.get("width")) for entry in data["images"]}
    sizes = {id: size for id, size in sizes.items() if all(type(side) is int for side in size)}
    joints = {entry["id"]: entry.get("keypoints") for entry in data["categories"]}
    joints = {id: len(names) for id, names in joints.items() if isinstance(names, list)}
    known = Known(images, categories, sizes, joints)
    _ids(path, "annotations", data["annotations"])
    for entry in _entries(path, "annotations", data["annotations"]):
        entry.names(known)
        entry.shape(GEOMETRY[iou_type], known)
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
        entry.shape(GEOMETRY[iou_type], known)
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
        for key in ("image_id", "category_id"):
            ids = getattr(known, key)
            if self.id(key) not in ids:
                section = {"image_id": "images", "category_id": "categories"}[key]
                some = ", ".join(map(str, sorted(ids)[:5])) + (", ..." if len(ids) > 5 else "")
                self.refuse(f"no such id among the truth's {section}", key, f"Known: {some or 'none'}.")

    def number(self, key: str, mend: str, least: float = -LARGEST) -> None:
        value = self.values.get(key)
        if not _finite(value) or value < least:
            self.refuse("not a finite number" if not _finite(value) else "negative", key, mend)

    def shape(self, key: str, known: Known) -> None:
        if key == "segmentation":
            return self._mask(known.sizes.get(self.id("image_id")))
        if key == "keypoints":
            return self._keypoints(known.joints.get(self.id("category_id")))
        value = self.values.get(key)
        mend = "A box is [x, y, width, height] in pixels."
        if not isinstance(value, list) or len(value) != 4 or not all(map(_finite, value)):
            self.refuse("not four finite numbers", key, mend)
        if min(value[2:]) < 0:
            self.refuse("a negative width or height", key, mend)

    def _mask(self, size: tuple[int, int] | None) -> None:
        key, value = "segmentation", self.values.get("segmentation")
        if not value:
            self.refuse("no mask", key, "Write polygons or a run-length encoding.")
        if isinstance(value, dict):
            # Imported for the few files that are looked at so closely: it builds on what takes long to import.
            from densevision.io.segmentations import runs_of

            if size is not None and runs_of(value, size) is None:
                problem = f"run lengths of another size than their picture, which is {list(size)}, or of none"
                self.refuse(problem, key, "Make them anew from this picture.")
            return
        if not isinstance(value, list) or not all(_is_outline(part) for part in value):
            self.refuse("neither polygons nor run lengths", key, "A polygon is [x, y, x, y, ...] in pixels.")
        if any(len(part) < 6 for part in value):
            self.refuse("a polygon of fewer than 3 points", key, "Remove it.")

    def _keypoints(self, count: int | None) -> None:
        key, value = "keypoints", self.values.get("keypoints")
        mend = "Write x, y and visibility of each."
        if not isinstance(value, list) or len(value) % 3 or not all(map(_finite, value)):
            self.refuse("not three finite numbers for each keypoint", key, mend)
        if count is not None and len(value) != 3 * count:
            self.refuse(f"{len(value) // 3} keypoints, where the category has {count}", key, mend)


def _is_outline(part: Any) -> bool:
    return isinstance(part, list) and len(part) % 2 == 0 and all(map(_finite, part))


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
