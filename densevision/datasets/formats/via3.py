"""VGG Image Annotator 3: one JSON with files, views and the shapes of all views.

A shape is a list of numbers that begins with its kind (`_VIA_RSHAPE` of its source), and belongs to a view, which shows
a file. The class is the value of an attribute of regions; those of radio buttons and lists are numbers of its options.
Rectangles, and boxes of four extreme points, have no mask. Shapes of views without an image, such as those of a video,
cannot be read; segments of time are no objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.label_files import (
    ellipse_polygon,
    parse_numbers,
    read_head,
    read_json,
    skip_shape_without_area,
)
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject
from densevision.datasets.formats.via import ONLY_CLASS, choose_class_attribute
from densevision.errors import DataError
from densevision.io.image_files import list_files
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["find_labels", "read_class_names", "read_images"]

POINT, RECTANGLE, CIRCLE, ELLIPSE, LINE, POLYLINE, POLYGON, EXTREME_RECTANGLE, EXTREME_CIRCLE = range(1, 10)
WITHOUT_AREA = {POINT: "point", LINE: "line", POLYLINE: "polyline"}
COUNTS = {RECTANGLE: 4, CIRCLE: 3, ELLIPSE: 4, EXTREME_RECTANGLE: 8, EXTREME_CIRCLE: 6}
"""Shape -> its numbers; a polygon has any number of them."""
IMAGE = 2
"""Type of the files that are images."""
OF_REGIONS = "XY1"
"""End of the `anchor_id` of attributes that belong to a region."""


def find_labels(folder: Path) -> Path | None:
    """Finds the JSON of a folder."""
    files = [folder] if folder.is_file() else list_files(folder, "*.json") if folder.is_dir() else []
    return next((file for file in files if file.suffix == ".json" and _is_via3(file)), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns None: the classes are those of the regions."""
    return None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images of a project, those without regions as well.

    Raises:
        DataError: No attribute is the class, regions belong to a video, or something is wrong and the policy is `fail`.
    """
    content, lookup = read_json(file, issues), ImageLookup(root)
    files, views, metadata = _get_tables(content)
    if content is not None and not (files and views):
        issues.add(IssueKind.FILE_MALFORMED, file, None, "no files, views and metadata")
    shapes: dict[str, list[tuple[str, Any]]] = {str(view): [] for view in views}
    for key, entry in metadata.items():
        view = str(entry.get("vid")) if isinstance(entry, dict) else None
        if view not in shapes or not isinstance(entry.get("xy"), list):
            issues.add(IssueKind.ENTRY_MALFORMED, file, f"metadata.{key}", entry)
        elif entry["xy"]:
            shapes[view].append((key, entry))
    attribute = _find_class_attribute(content.get("attribute"), file) if views else None
    for view, entries in shapes.items():
        name = _find_image(views[view], files)
        if name is None and entries:
            hint = "Label its frames as images."
            problem = "has regions in a view that does not show one image"
            raise DataError(problem, file=file, field=f"view.{view}", hint=hint)
        if name is not None:
            parse = partial(_parse_objects, file, entries, attribute)
            yield LabeledImage(lookup.find(name), file, f"view.{view}", parse=parse)


def _parse_objects(
    file: Path, entries: list[tuple[str, Any]], attribute: tuple[str, dict[str, Any]] | None, issues: LabelIssues
) -> Iterator[LabeledObject]:
    for key, entry in entries:
        field = f"metadata.{key}"
        kind, *numbers = entry["xy"]
        if isinstance(kind, int) and kind in WITHOUT_AREA:
            skip_shape_without_area(file, field, WITHOUT_AREA[kind], issues)
            continue
        label = _get_class(entry, attribute)
        item = None if label is None else _parse_shape(label, field, kind, numbers)
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, entry)


def _is_via3(file: Path) -> bool:
    head = read_head(file)
    return all(f'"{key}"' in head for key in ("attribute", "vid_list", "project"))


def _get_tables(content: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns files, views and metadata by their numbers; empty ones for another file."""
    tables = [content.get(key) if isinstance(content, dict) else None for key in ("file", "view", "metadata")]
    files, views, metadata = (table if isinstance(table, dict) else {} for table in tables)
    return (files, views, metadata) if all(isinstance(table, dict) for table in tables) else ({}, {}, {})


def _find_image(view: Any, files: dict[str, Any]) -> str | None:
    """Returns the image that a view shows, by its name or its path; None for videos, sounds and several files."""
    numbers = view.get("fid_list") if isinstance(view, dict) else None
    shown = files.get(str(numbers[0])) if isinstance(numbers, list) and len(numbers) == 1 else None
    if not isinstance(shown, dict) or shown.get("type") != IMAGE:
        return None
    name = shown.get("src") or shown.get("fname")
    return name if isinstance(name, str) else None


def _find_class_attribute(attributes: Any, file: Path) -> tuple[str, dict[str, Any]] | None:
    """Returns the number of the attribute that holds the class, and the names of its options; None without any."""
    of_regions = {
        str(value.get("aname")): (key, value.get("options"))
        for key, value in (attributes.items() if isinstance(attributes, dict) else ())
        if isinstance(value, dict) and str(value.get("anchor_id")).endswith(OF_REGIONS)
    }
    name = choose_class_attribute(of_regions, file)
    if name is None:
        return None
    key, options = of_regions[name]
    return key, options if isinstance(options, dict) else {}


def _get_class(entry: dict[str, Any], attribute: tuple[str, dict[str, Any]] | None) -> str | None:
    if attribute is None:
        return ONLY_CLASS
    key, options = attribute
    values = entry.get("av")
    value = values.get(key) if isinstance(values, dict) else None
    name = options.get(value, value) if isinstance(value, str) else None
    return name.strip() or None if isinstance(name, str) else None


def _parse_shape(label: str, field: str, kind: Any, values: list[Any]) -> LabeledObject | None:
    """Parses a region; None if it is malformed."""
    numbers = parse_numbers(values, COUNTS.get(kind)) if isinstance(kind, int) else None
    if numbers is None:
        return None
    if kind == RECTANGLE:
        x, y, width, height = numbers
        return LabeledObject(label, field, box=(x, y, x + width, y + height))
    if kind == EXTREME_RECTANGLE:
        return LabeledObject(
            label, field, box=(min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))
        )
    if kind == POLYGON and len(numbers) % 2 == 0:
        return LabeledObject(label, field, polygons=[numbers])
    circle = _fit_circle(numbers) if kind == EXTREME_CIRCLE else numbers
    if kind not in (CIRCLE, ELLIPSE, EXTREME_CIRCLE) or circle is None:
        return None
    x, y, radius_x, *rest = circle
    return LabeledObject(label, field, polygons=[ellipse_polygon(x, y, radius_x, rest[0] if rest else radius_x)])


def _fit_circle(numbers: list[float]) -> list[float] | None:
    """Returns center and radius of the circle through three points; None if they are on a line."""
    points = np.reshape(numbers, (3, 2))
    # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the center and the bracket.
    system = np.concatenate([2 * points, np.ones((3, 1))], 1)
    if abs(np.linalg.det(system)) < 1e-9:
        return None
    x, y, rest = np.linalg.solve(system, (points**2).sum(1)).tolist()
    return [x, y, float(np.sqrt(rest + x * x + y * y))]
