"""Labelme: beside each image a json with its shapes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.coco_objects import add_outlines
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, Records, Strings, build_table
from densevision.io.image_files import LARGEST, Choose, is_inside, measure_images
from densevision.io.label_issues import Findings, Kind
from densevision.io.segmentations import Gathered, Segmentations

CORNERS = 64
"""Corners of the polygon that stands for a circle."""


def is_labelme(file: Path) -> bool:
    """Whether a json is labelme's: it lists shapes."""
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and isinstance(values.get("shapes"), list)


def class_names(folder: Path) -> tuple[str, ...]:
    """The labels that occur in the folder's files, sorted.

    Raises:
        DataError: There are none.
    """
    files = sorted(folder.glob("*.json"))
    names = sorted({str(shape.get("label")) for file in files for shape in _read(file)["shapes"]})
    if not names:
        raise DataError("no file has a shape", file=folder, hint="Label at least one object.")
    return tuple(names)


def read_labelme(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    findings: Findings,
    max_pixels: int = LARGEST,
    choose: Choose | None = None,
) -> tuple[BoxTable, Segmentations]:
    """Reads a folder of labelme files: polygons, rectangles and circles; shapes of one group are one object.

    Args:
        folder: Where the files are; `imagePath` is given from there.
        names: Class names; labels are indices into them.
        findings: Decides about what is wrong.
        max_pixels: Limit of an image.
        choose: Takes some of the images; all when not given.

    Raises:
        DataError: A file is not labelme's, or something is wrong and the policy is `fail`.
    """
    folder = Path(folder)
    entries = [(file, _read(file)) for file in sorted(folder.glob("*.json"))]
    files = Strings.of(str(entry.get("imagePath") or f"{file.stem}.jpg") for file, entry in entries)
    chosen = np.ones(len(files), bool) if choose is None else np.asarray(choose(files), bool)
    for row in np.flatnonzero(chosen).tolist():
        if not is_inside(files[row]):
            chosen[row] = findings.add(Kind.NAME_ESCAPES, entries[row][0], "imagePath", files[row])

    def listed(row: int) -> tuple[str, str]:
        return str(entries[row][0]), "imagePath"

    sizes = measure_images(files, folder, chosen, findings, max_pixels, listed)
    records, gathered, places = Records(), Gathered(), []
    for image, (file, entry) in enumerate(entries):
        if sizes[image, 0]:
            places += _add_objects(image, file, entry, sizes[image].tolist(), names, records, gathered, findings)
    ids = np.arange(1, len(files) + 1)
    table = build_table(
        files, sizes, ids, records.array(), tuple(names), tuple(range(1, len(names) + 1)), findings, places.__getitem__
    )
    return table, gathered.packed().take(table.origin)


def _add_objects(
    image: int,
    file: Path,
    entry: dict[str, Any],
    size: list[int],
    names: Sequence[str],
    records: Records,
    gathered: Gathered,
    findings: Findings,
) -> list[tuple[str, str, Any]]:
    """Adds the objects of one file; gives the place of each. A box's origin is the row of its mask."""
    places = []
    for index, label, parts in _objects(file, entry, findings):
        field = f"shapes[{index}]"
        if label not in names:
            findings.add(Kind.CLASS_ABSENT, file, f"{field}.label", label)
        elif add_outlines(gathered, parts, (size[0], size[1]), f"{field}.points", file, findings):
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])
            box = (*points.min(0).tolist(), *points.max(0).tolist())
            records.add(image, names.index(label), box, len(gathered.kinds) - 1)
            places.append((str(file), f"{field}.points", list(box)))
    return places


def _objects(file: Path, entry: dict[str, Any], findings: Findings) -> list[tuple[int, str, list[list[float]]]]:
    """Index of the first shape, label and outlines of each object."""
    objects: dict[Any, tuple[int, str, list[list[float]]]] = {}
    for index, shape in enumerate(entry["shapes"]):
        points = outline(shape)
        if points is None:
            findings.add(Kind.ENTRY_MALFORMED, file, f"shapes[{index}]", shape)
            continue
        label, group = str(shape.get("label")), shape.get("group_id")
        key = index if group is None else (label, group)
        objects.setdefault(key, (index, label, []))[2].append(points)
    return list(objects.values())


def outline(shape: Any) -> list[float] | None:
    """x y x y ... of a shape, or None where it has no area or is malformed."""
    try:
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        kind = shape.get("shape_type", "polygon")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if kind == "polygon":
        return points.ravel().tolist()
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points.tolist()
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        radius, turn = np.linalg.norm(points[1] - points[0]), np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return (points[0] + radius * np.stack([np.cos(turn), np.sin(turn)], 1)).ravel().tolist()
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except ValueError as failure:
        raise DataError(f"is not valid JSON, {failure}", file=file) from None
    if not isinstance(values, dict) or not isinstance(values.get("shapes"), list):
        raise DataError("is not a labelme file", file=file, field="shapes", hint="It lists shapes.")
    return values
