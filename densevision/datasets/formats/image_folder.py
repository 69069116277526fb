"""Hugging Face's imagefolder: `metadata.jsonl` beside the images of each split.

Each line has `file_name` and `objects`, an object of lists: `bbox` (x, y, width, height in pixels, as in COCO) and the
class of each box as `categories`, `category`, `label` or `labels`; a list of objects is read, too. Classes are names,
or numbers of the names that README.md states under `class_label`; without them they are `class_0`, `class_1`, ... Boxes
have no mask. Datasets stored as Parquet hold no image files and are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from densevision.datasets.formats.label_files import parse_numbers
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject
from densevision.errors import UsageError
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import read_lines
from densevision.yaml_files import parse_yaml

__all__ = ["find_labels", "read_class_names", "read_images"]

METADATA = "metadata.jsonl"
CLASS_KEYS = ("categories", "category", "labels", "label")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)


def find_labels(folder: Path) -> Path | None:
    """Finds the metadata of a folder."""
    file = folder if folder.is_file() else folder / METADATA
    if file.name != METADATA or not file.is_file():
        return None
    return file if any('"objects"' in line for line in read_lines(file)) else None


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns the names that README.md states; None if it states none."""
    for readme in (file.parent / "README.md", file.parent.parent / "README.md"):
        match = _FRONT_MATTER.match(readme.read_text("utf-8", "replace")) if readme.is_file() else None
        try:
            names = _find_names(parse_yaml(match[1], readme, ("dataset_info",))) if match else None
        except UsageError:
            continue
        if names:
            return names
    return None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the lines of the metadata.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    lookup, names = ImageLookup(root), read_class_names(file) or ()
    for number, line in enumerate(read_lines(file), 1):
        field = f"line {number}"
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, objects = entry["file_name"], _list_objects(entry.get("objects") or {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            issues.add(IssueKind.LINE_MALFORMED, file, field, line)
            continue
        parse = partial(_parse_objects, file, field, objects, names)
        yield LabeledImage(lookup.find(str(name), file.parent), file, field, parse=parse)


def _parse_objects(
    file: Path, field: str, objects: list[tuple[Any, Any]], names: tuple[str, ...], issues: LabelIssues
) -> Iterator[LabeledObject]:
    for index, (values, category) in enumerate(objects):
        box, label, place = parse_numbers(values, 4), _get_name(category, names), f"{field}.objects[{index}]"
        if box is None or label is None:
            issues.add(IssueKind.ENTRY_MALFORMED, file, place, [values, category])
        else:
            x, y, width, height = box
            yield LabeledObject(label, place, box=(x, y, x + width, y + height))


def _list_objects(objects: Any) -> list[tuple[Any, Any]]:
    """Returns the box and the class of each object.

    Raises:
        TypeError, KeyError, ValueError: The objects have another form.
    """
    if isinstance(objects, list):
        return [(entry["bbox"], entry[_find_class_key(entry)]) for entry in objects]
    boxes = objects.get("bbox", [])
    classes = objects.get(_find_class_key(objects), [])
    if len(boxes) != len(classes):
        raise ValueError("boxes and classes differ in number")
    return list(zip(boxes, classes))


def _find_class_key(values: dict[str, Any]) -> str:
    """The key under which objects or an object have their classes; the first of them if there is none."""
    return next((key for key in CLASS_KEYS if key in values), CLASS_KEYS[0])


def _get_name(category: Any, names: tuple[str, ...]) -> str | None:
    if isinstance(category, str):
        return category
    if type(category) is not int or category < 0:
        return None
    return names[category] if category < len(names) else None if names else f"class_{category}"


def _find_names(values: Any) -> tuple[str, ...] | None:
    """Finds the names of the first `class_label` in nested YAML."""
    if isinstance(values, dict):
        label = values.get("class_label")
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict):
            numbered = {str(key): name for key, name in names.items()}
            names = [numbered.get(str(number)) for number in range(len(numbered))]
            if None in names:  # not numbered from 0 without gaps
                return None
        if isinstance(names, list) and names:
            return tuple(map(str, names))
    children = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return next((names for child in children if (names := _find_names(child))), None)
