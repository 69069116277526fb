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
SIDES = ("height", "width")

LARGEST = 1e300


class Known(NamedTuple):
    """What a truth file says of its images and classes, which the entries of both files must fit.

    Attributes:
        path: The file.
        images: Id -> the image's entry.
        categories: Id -> the class's entry.
    """

    path: Path
    images: dict[int, dict[str, Any]]
    categories: dict[int, dict[str, Any]]

    def size(self, image_id: int) -> tuple[int, int] | None:
        """(height, width) of an image in pixels, where they are stated."""
        sides = [self.images[image_id].get(key) for key in SIDES]
        return tuple(map(int, sides)) if all(map(_is_side, sides)) else None

    def keypoint_names(self, category_id: int) -> int | None:
        """Number of a class's keypoints, where they are named."""
        names = self.categories[category_id].get("keypoints")
        return len(names) if isinstance(names, list) else None

    def refuse_size(self, image_id: int) -> NoReturn:
        """Names the side that an image lacks.

        Raises:
            DataError: Always.
        """
        image = _Entry(self.path, f"images[{list(self.images).index(image_id)}]", self.images[image_id])
        key = next(key for key in SIDES if not _is_side(image.values.get(key)))
        image.refuse("not a number of pixels", key, "Write it: the polygons of this image cannot be drawn without.")


def examine_truth(path: Path, iou_type: str = "bbox") -> Known:
    """Reads a COCO dataset.

    Args:
        path: COCO json.
        iou_type: What the objects must have.

    Raises:
        DataError: The first fault, with its place, value and fix.
    """
    data = parsed(path)
    if not isinstance(data, dict):
        hint = "Give an object with images, annotations and categories; are truth and predictions swapped?"
        raise DataError("is not a COCO dataset", file=path, value=type(data).__name__, hint=hint)
    for section in SECTIONS:
        if not isinstance(data.get(section), list):
            problem = f"is not a COCO dataset: no list of {section}"
            raise DataError(
                problem, file=path, field=section, value=data.get(section), hint=f"Write {section} as a list."
            )
    known = Known(path, *(_by_id(path, section, data[section]) for section in ("images", "categories")))
    _by_id(path, "annotations", data["annotations"])
    for entry in _entries(path, "annotations", data["annotations"]):
        entry.names(known)
        entry.shape(GEOMETRY[iou_type], known)
        entry.number("area", "Write the area of the mask, or width x height of the box.", least=0)
    return known


def examine_predictions(path: Path, truth: Path, iou_type: str = "bbox") -> None:
    """Reads a COCO results file.

    Args:
        path: COCO results.
        truth: COCO json.
        iou_type: What the predictions and the objects must have.

    Raises:
        DataError: The first fault in it, or in the truth.
    """
    known = examine_truth(truth, iou_type)
    data = parsed(path)
    if not isinstance(data, list):
        hint = "Give a list of {image_id, category_id, bbox, score}; are truth and predictions swapped?"
        raise DataError("is not a list of predictions", file=path, value=type(data).__name__, hint=hint)
    for entry in _entries(path, "", data):
        entry.names(known)
        entry.shape(GEOMETRY[iou_type], known)
        entry.number("score", "Write the confidence as a number.")


class _Entry(NamedTuple):
    """One entry and its place, such as annotations[17]."""

    path: Path
    place: str
    values: dict[str, Any]

    def refuse(self, problem: str, key: str, hint: str) -> NoReturn:
        absent = key not in self.values
        found = {} if absent else {"value": self.values[key]}
        raise DataError(
            "absent" if absent else problem, file=self.path, field=f"{self.place}.{key}", hint=hint, **found
        )

    def id(self, key: str) -> int:
        value = self.values.get(key)
        if not _finite(value) or value != int(value) or value < 0:
            self.refuse("not an id", key, "Ids are whole numbers from 0.")
        return int(value)

    def names(self, known: Known) -> None:
        for key, section, ids in (
            ("image_id", "images", known.images),
            ("category_id", "categories", known.categories),
        ):
            if self.id(key) not in ids:
                some = ", ".join(map(str, sorted(ids)[:5])) + (", ..." if len(ids) > 5 else "")
                self.refuse(f"no such id among the truth's {section}", key, f"Known: {some or 'none'}.")

    def number(self, key: str, hint: str, least: float = -LARGEST) -> None:
        value = self.values.get(key)
        if not _finite(value) or value < least:
            self.refuse("not a finite number" if not _finite(value) else "negative", key, hint)

    def shape(self, key: str, known: Known) -> None:
        if key == "segmentation":
            return self._mask(known)
        if key == "keypoints":
            return self._keypoints(known.keypoint_names(self.id("category_id")))
        value = self.values.get(key)
        hint = "A box is [x, y, width, height] in pixels."
        if not isinstance(value, list) or len(value) != 4 or not all(map(_finite, value)):
            self.refuse("not four finite numbers", key, hint)
        if min(value[2:]) < 0:
            self.refuse("a negative width or height", key, hint)

    def _mask(self, known: Known) -> None:
        key, value = "segmentation", self.values.get("segmentation")
        size = known.size(self.id("image_id"))
        if not value:
            self.refuse("no mask", key, "Write polygons or a run-length encoding.")
        if isinstance(value, dict):
            return self._runs(value, size)
        if not isinstance(value, list) or not all(_is_outline(part) for part in value):
            self.refuse("neither polygons nor run lengths", key, "A polygon is [x, y, x, y, ...] in pixels.")
        if any(len(part) < 6 for part in value):
            self.refuse("a polygon of fewer than 3 points", key, "Remove it.")
        if size is None:
            known.refuse_size(self.id("image_id"))

    def _runs(self, value: dict[str, Any], size: tuple[int, int] | None) -> None:
        # Imported for the few files that are looked at so closely: it builds on what takes long to import.
        from densevision.io.segmentations import runs_of

        stated = value.get("size")
        if not isinstance(stated, list) or len(stated) != 2 or any(type(side) is not int for side in stated):
            self.refuse("run lengths without their size", "segmentation", "Write size as [height, width] into it.")
        if runs_of(value, size or (stated[0], stated[1])) is None:
            told = f"image, which is {list(size)}" if size else "size"
            problem = f"run lengths of another size than their {told}, or of none"
            self.refuse(problem, "segmentation", "Make them anew from this image.")

    def _keypoints(self, count: int | None) -> None:
        key, value = "keypoints", self.values.get("keypoints")
        hint = "Write x, y and visibility of each."
        if not isinstance(value, list) or len(value) % 3 or not all(map(_finite, value)):
            self.refuse("not three finite numbers for each keypoint", key, hint)
        if count is not None and len(value) != 3 * count:
            self.refuse(f"{len(value) // 3} keypoints, where the category has {count}", key, hint)


def _is_outline(part: Any) -> bool:
    return isinstance(part, list) and len(part) % 2 == 0 and all(map(_finite, part))


def _entries(path: Path, section: str, entries: list[Any]) -> Iterator[_Entry]:
    for index, values in enumerate(entries):
        place = f"{section}[{index}]"
        if not isinstance(values, dict):
            raise DataError("not an object", file=path, field=place, value=values, hint="Write it as {...}.")
        yield _Entry(path, place, values)


def _by_id(path: Path, section: str, entries: list[Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for entry in _entries(path, section, entries):
        if (id := entry.id("id")) in found:
            entry.refuse("the same id twice", "id", "Number each entry once.")
        found[id] = entry.values
    return found


def parsed(path: Path) -> Any:
    """What a json file says.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return json.loads(text_of(path).decode("utf-8-sig"))
    except json.JSONDecodeError as failure:
        place = f"line {failure.lineno}, column {failure.colno}"
        hint = "The file may have been cut short; write it again."
        raise DataError(f"not JSON: {failure.msg}", file=path, field=place, hint=hint) from None
    except UnicodeDecodeError:
        raise DataError("not JSON: not text in UTF-8", file=path, hint="Give a COCO json file.") from None


def text_of(path: Path) -> bytes:
    """What lies in a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as failure:
        raise DataError(f"cannot be read: {failure.strerror}", file=path, hint="Check the path.") from None


def _is_side(value: Any) -> bool:
    return _finite(value) and value == int(value) and value >= 1


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
