"""VGG Image Annotator: one JSON with the regions of all images.

VIA 2 writes a project (`_via_img_metadata` beside settings) or the annotations alone, with lists of regions; VIA 1
numbers the regions as keys of an object. Make Sense writes the annotations alone, too. The class is the value of a
region's attribute, whose name the labeler chose; checkbox attributes are objects of chosen values. Rectangles have no
mask. Projects of VIA 3, whose shapes are bare lists of numbers, are read by `via3`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from densevision.datasets.formats.label_files import (
    ellipse_polygon,
    parse_numbers,
    read_head,
    read_json,
    skip_shape_without_area,
)
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject
from densevision.errors import DataError
from densevision.io.image_files import list_files
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["ONLY_CLASS", "choose_class_attribute", "find_labels", "read_class_names", "read_images"]

CLASS_ATTRIBUTES = ("class", "label", "category", "name", "type", "object")
"""Attributes that hold the class, in order of preference, where regions have several."""
SHAPES_WITHOUT_AREA = ("polyline", "point")
ONLY_CLASS = "object"
"""Class of all regions of a file whose regions have no attribute."""


def find_labels(folder: Path) -> Path | None:
    """Finds the JSON of a folder."""
    files = [folder] if folder.is_file() else list_files(folder, "*.json") if folder.is_dir() else []
    return next((file for file in files if file.suffix == ".json" and _is_via(file)), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns None: the classes are those of the regions."""
    return None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images of a JSON.

    Raises:
        DataError: No attribute is the class, or something is wrong and the policy is `fail`.
    """
    content = read_json(file, issues)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        if content is not None:
            issues.add(IssueKind.FILE_MALFORMED, file, None, "no object of images")
        return
    lookup, attribute = ImageLookup(root), _find_class_attribute(entries, file)
    for key, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            issues.add(IssueKind.ENTRY_MALFORMED, file, key, entry)
            continue
        parse = partial(_parse_objects, file, key, entry, attribute)
        yield LabeledImage(lookup.find(entry["filename"]), file, f"{key}.filename", parse=parse)


def _parse_objects(
    file: Path, key: str, entry: dict[str, Any], attribute: str | None, issues: LabelIssues
) -> Iterator[LabeledObject]:
    for number, region in _list_regions(entry):
        field = f"{key}.regions[{number}]"
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        kind = shape.get("name") if isinstance(shape, dict) else None
        if isinstance(kind, str) and kind in SHAPES_WITHOUT_AREA:
            skip_shape_without_area(file, field, kind, issues)
            continue
        item = _parse_region(shape, _get_class(region, attribute), field) if isinstance(shape, dict) else None
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, region, entry["filename"])


def _is_via(file: Path) -> bool:
    head = read_head(file)
    return '"_via_settings"' in head or all(f'"{key}"' in head for key in ("filename", "regions", "file_attributes"))


def _list_regions(entry: dict[str, Any]) -> list[tuple[str, Any]]:
    regions = entry.get("regions")
    if isinstance(regions, dict):
        return [(str(number), region) for number, region in regions.items()]
    return [(str(number), region) for number, region in enumerate(regions)] if isinstance(regions, list) else []


def _find_class_attribute(entries: dict[str, Any], file: Path) -> str | None:
    """Finds the attribute that holds the class; None if no region has an attribute."""
    counts: Counter[str] = Counter()
    for entry in entries.values():
        for _, region in _list_regions(entry) if isinstance(entry, dict) else ():
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            counts.update(attributes.keys() if isinstance(attributes, dict) else ())
    return choose_class_attribute(counts, file)


def choose_class_attribute(names: Iterable[str], file: Path) -> str | None:
    """Chooses the attribute of regions that holds the class: the only one, or the one with the most telling name.

    Returns:
        Its name; None if there is no attribute.

    Raises:
        DataError: There are several, and none is known to hold the class.
    """
    names = list(names)
    by_lower_case = {name.lower(): name for name in names}
    attribute = next((by_lower_case[name] for name in CLASS_ATTRIBUTES if name in by_lower_case), None)
    if attribute is None and len(names) > 1:
        hint = f"Rename the attribute of the class to one of {', '.join(CLASS_ATTRIBUTES)}."
        value = ", ".join(names)
        raise DataError(
            "no attribute is known to hold the class", file=file, field="attributes", value=value, hint=hint
        )
    return attribute or next(iter(names), None)


def _get_class(region: dict[str, Any], attribute: str | None) -> str | None:
    if attribute is None:
        return ONLY_CLASS
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):
        chosen = [name for name, is_chosen in value.items() if is_chosen]
        value = chosen[0] if len(chosen) == 1 else None
    return value.strip() or None if isinstance(value, str) else None if value is None else json.dumps(value)


def _parse_region(shape: dict[str, Any], label: str | None, field: str) -> LabeledObject | None:
    """Parses a rectangle, circle, ellipse or polygon; None if it is malformed."""
    kind = shape.get("name")
    keys = {"rect": "x y width height", "circle": "cx cy r", "ellipse": "cx cy rx ry"}.get(str(kind), "")
    numbers = parse_numbers([shape.get(key) for key in keys.split()])
    if label is None or numbers is None:
        return None
    if kind == "rect":
        x, y, width, height = numbers
        return LabeledObject(label, field, box=(x, y, x + width, y + height))
    if kind == "circle":
        x, y, radius = numbers
        return LabeledObject(label, field, polygons=[ellipse_polygon(x, y, radius, radius)])
    if kind == "ellipse":
        angle = parse_numbers([shape.get("theta", 0)])
        degrees = 0.0 if angle is None else angle[0] * 180 / 3.141592653589793
        x, y, radius_x, radius_y = numbers
        return LabeledObject(label, field, polygons=[ellipse_polygon(x, y, radius_x, radius_y, degrees)])
    x_values, y_values = (parse_numbers(shape.get(f"all_points_{axis}")) for axis in "xy")
    if kind not in ("polygon", "polyshape") or not x_values or not y_values or len(x_values) != len(y_values):
        return None
    return LabeledObject(label, field, polygons=[[value for point in zip(x_values, y_values) for value in point]])
