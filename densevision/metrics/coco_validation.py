"""Finds the first fault in COCO files, entry by entry: slow and exact, for files that are known to be suspect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard

from densevision.errors import DataError

__all__ = ["GEOMETRY", "CocoIndex", "load_json", "read_bytes", "validate_predictions", "validate_truth"]

GEOMETRY = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
"""IoU type -> the key of an entry's geometry."""
SECTIONS = ("images", "annotations", "categories")
SIDES = ("height", "width")
MAX_VALUE = 1e300


class CocoIndex(NamedTuple):
    """The images and classes of a ground truth file, which the entries of both files must refer to.

    Attributes:
        path: The file.
        images: Id -> the image's entry.
        categories: Id -> the class's entry.
    """

    path: Path
    images: dict[int, dict[str, Any]]
    categories: dict[int, dict[str, Any]]

    def get_size(self, image_id: int) -> tuple[int, int] | None:
        """(height, width) of an image in pixels, or None if the file does not state them."""
        height, width = (self.images[image_id].get(key) for key in SIDES)
        return (int(height), int(width)) if _is_side(height) and _is_side(width) else None

    def count_keypoints(self, category_id: int) -> int | None:
        """Number of a class's keypoints, or None if the file does not name them."""
        names = self.categories[category_id].get("keypoints")
        return len(names) if isinstance(names, list) else None

    def refuse_size(self, image_id: int) -> NoReturn:
        """Reports the missing or invalid side of an image.

        Raises:
            DataError: Always.
        """
        image = _Entry(self.path, f"images[{list(self.images).index(image_id)}]", self.images[image_id])
        key = next(key for key in SIDES if not _is_side(image.values.get(key)))
        image.refuse("not a number of pixels", key, "Add it: polygons cannot be drawn without the image's size.")


def validate_truth(path: Path, iou_type: str = "bbox") -> CocoIndex:
    """Reads and checks a COCO dataset.

    Args:
        path: COCO json.
        iou_type: Geometry that the objects must have.

    Raises:
        DataError: The first fault, with its field, value and hint.
    """
    data = load_json(path)
    if not isinstance(data, dict):
        hint = "Give an object with images, annotations and categories; are ground truth and predictions swapped?"
        raise DataError("is not a COCO dataset", file=path, value=type(data).__name__, hint=hint)
    for section in SECTIONS:
        if not isinstance(data.get(section), list):
            problem, hint = f"is not a COCO dataset: no list of {section}", f"Write {section} as a list."
            raise DataError(problem, file=path, field=section, value=data.get(section), hint=hint)
    index = CocoIndex(path, *(_index_by_id(path, section, data[section]) for section in ("images", "categories")))
    _index_by_id(path, "annotations", data["annotations"])
    for entry in _iterate_entries(path, "annotations", data["annotations"]):
        entry.check_references(index)
        entry.check_geometry(GEOMETRY[iou_type], index)
        if iou_type == "keypoints":  # objects without a labeled keypoint are matched by their box
            entry.check_geometry("bbox", index)
        entry.check_number("area", "Write the area of the mask, or width x height of the box.", minimum=0)
    return index


def validate_predictions(path: Path, truth: Path, iou_type: str = "bbox") -> None:
    """Reads and checks a COCO results file and the ground truth it refers to.

    Args:
        path: COCO results.
        truth: COCO json.
        iou_type: Geometry that predictions and objects must have.

    Raises:
        DataError: The first fault in either file.
    """
    index = validate_truth(truth, iou_type)
    data = load_json(path)
    if not isinstance(data, list):
        hint = "Give a list of {image_id, category_id, bbox, score}; are ground truth and predictions swapped?"
        raise DataError("is not a list of predictions", file=path, value=type(data).__name__, hint=hint)
    for entry in _iterate_entries(path, "", data):
        entry.check_references(index)
        entry.check_geometry(GEOMETRY[iou_type], index)
        entry.check_number("score", "Write the confidence as a number.")


class _Entry(NamedTuple):
    """An entry and its place, such as annotations[17]."""

    path: Path
    place: str
    values: dict[str, Any]

    def refuse(self, problem: str, key: str, hint: str) -> NoReturn:
        field = f"{self.place}.{key}"
        if key not in self.values:
            raise DataError("absent", file=self.path, field=field, hint=hint)
        raise DataError(problem, file=self.path, field=field, value=self.values[key], hint=hint)

    def get_id(self, key: str) -> int:
        value = self.values.get(key)
        if not _is_finite(value) or value != int(value) or value < 0:
            self.refuse("not an id", key, "Ids are integers from 0.")
        return int(value)

    def check_references(self, index: CocoIndex) -> None:
        for key, section, ids in (
            ("image_id", "images", index.images),
            ("category_id", "categories", index.categories),
        ):
            if self.get_id(key) not in ids:
                examples = ", ".join(map(str, sorted(ids)[:5])) + (", ..." if len(ids) > 5 else "")
                self.refuse(f"no such id among the ground truth's {section}", key, f"Known: {examples or 'none'}.")

    def check_number(self, key: str, hint: str, minimum: float = -MAX_VALUE) -> None:
        value = self.values.get(key)
        if not _is_finite(value) or value < minimum:
            self.refuse("not a finite number" if not _is_finite(value) else "negative", key, hint)

    def check_geometry(self, key: str, index: CocoIndex) -> None:
        if key == "segmentation":
            return self._check_mask(index)
        if key == "keypoints":
            return self._check_keypoints(index.count_keypoints(self.get_id("category_id")))
        value = self.values.get(key)
        hint = "A box is [x, y, width, height] in pixels."
        if not isinstance(value, list) or len(value) != 4 or not all(map(_is_finite, value)):
            self.refuse("not four finite numbers", key, hint)
        if min(value[2:]) < 0:
            self.refuse("a negative width or height", key, hint)

    def _check_mask(self, index: CocoIndex) -> None:
        key, value = "segmentation", self.values.get("segmentation")
        size = index.get_size(self.get_id("image_id"))
        if not value:
            self.refuse("no mask", key, "Write polygons or a run-length encoding.")
        if isinstance(value, dict):
            return self._check_run_lengths(value, size)
        if not isinstance(value, list) or not all(_is_polygon(part) for part in value):
            self.refuse("neither polygons nor run lengths", key, "A polygon is [x, y, x, y, ...] in pixels.")
        if any(len(part) < 6 for part in value):
            self.refuse("a polygon of fewer than 3 points", key, "Remove it.")
        if size is None:
            index.refuse_size(self.get_id("image_id"))

    def _check_run_lengths(self, value: dict[str, Any], size: tuple[int, int] | None) -> None:
        # Imported here, for few files need it and its own imports are slow.
        from densevision.io.segmentations import parse_rle

        declared = value.get("size")
        if not isinstance(declared, list) or len(declared) != 2 or any(type(side) is not int for side in declared):
            self.refuse("run lengths without their size", "segmentation", "Add size as [height, width].")
        if parse_rle(value, size or (declared[0], declared[1])) is None:
            expected = f"that of their image, {list(size)}" if size else "the declared one"
            problem = f"run lengths whose size is not {expected}, or that do not fill it"
            self.refuse(problem, "segmentation", "Encode the mask of this image again.")

    def _check_keypoints(self, count: int | None) -> None:
        key, value = "keypoints", self.values.get("keypoints")
        hint = "Write x, y and visibility of each."
        if not isinstance(value, list) or len(value) % 3 or not all(map(_is_finite, value)):
            self.refuse("not three finite numbers for each keypoint", key, hint)
        if count is not None and len(value) != 3 * count:
            self.refuse(f"{len(value) // 3} keypoints, but the category has {count}", key, hint)


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except json.JSONDecodeError as failure:
        place = f"line {failure.lineno}, column {failure.colno}"
        hint = "The file may be truncated; write it again."
        raise DataError(f"not JSON: {failure.msg}", file=path, field=place, hint=hint) from None
    except UnicodeDecodeError:
        raise DataError("not JSON: not text in UTF-8", file=path, hint="Give a COCO json file.") from None
    except (ValueError, RecursionError) as failure:  # a number of thousands of digits; lists in lists in lists
        reason = "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
        raise DataError(f"not usable JSON: {reason}", file=path, hint="Give a COCO json file.") from None


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as failure:
        raise DataError(f"cannot be read: {failure.strerror}", file=path, hint="Check the path.") from None


def _iterate_entries(path: Path, section: str, entries: list[Any]) -> Iterator[_Entry]:
    for index, values in enumerate(entries):
        place = f"{section}[{index}]"
        if not isinstance(values, dict):
            raise DataError("not an object", file=path, field=place, value=values, hint="Write it as {...}.")
        yield _Entry(path, place, values)


def _index_by_id(path: Path, section: str, entries: list[Any]) -> dict[int, dict[str, Any]]:
    by_id: dict[int, dict[str, Any]] = {}
    for entry in _iterate_entries(path, section, entries):
        if (entry_id := entry.get_id("id")) in by_id:
            entry.refuse("the same id twice", "id", "Ids must be unique.")
        by_id[entry_id] = entry.values
    return by_id


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) % 2 == 0 and all(map(_is_finite, part))


def _is_side(value: Any) -> TypeGuard[float]:
    return _is_finite(value) and value == int(value) and value >= 1


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_VALUE < value < MAX_VALUE
