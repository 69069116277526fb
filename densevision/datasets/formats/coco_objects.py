"""Masks and keypoints of a COCO json, for the boxes that were read of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import Findings, Kind
from densevision.io.segmentations import Gathered, Segmentations, holds_pixels, runs_of
from densevision.ops.masks import areas
from densevision.ops.skeleton import Skeleton
from densevision.ops.view import Size

LEAST_POINTS = 3


def read_masks(file: str | os.PathLike[str], table: BoxTable, findings: Findings) -> tuple[Segmentations, np.ndarray]:
    """The masks of a table's objects.

    Polygons, and run lengths compressed or not. What an object lacks leaves the object out, under `fix` and `skip`.

    Args:
        file: The json from which the table was read.
        table: Its boxes.
        findings: Decides about what is wrong.

    Returns:
        The masks of the objects that stay, in the table's order, and (M,) bool: which do.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    gathered, rows = Gathered(), []
    for index, row, size, entry in _entries(file, table):
        if _add_mask(gathered, entry.get("segmentation"), size, f"annotations[{index}].segmentation", file, findings):
            rows.append(row)
    return _in_order(gathered, rows, len(table.labels))


def read_keypoints(
    file: str | os.PathLike[str], table: BoxTable, skeleton: Skeleton, findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints of a table's objects: (M, K, 3) float32 x, y, visibility; and (M,) bool, which objects stay.

    Raises:
        DataError: An object has another number of keypoints than the skeleton, and the policy is `fail`.
    """
    count = len(skeleton.names)
    points, keep = np.zeros((len(table.labels), count, 3), np.float32), np.ones(len(table.labels), bool)
    for index, row, _, entry in _entries(file, table):
        values = entry.get("keypoints", [0] * 3 * count if entry.get("iscrowd") else None)
        right = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if not right or len(values) != 3 * count:
            found = f"{len(values) / 3:g} keypoints, the skeleton has {count}" if right else values
            keep[row] = findings.add(Kind.KEYPOINT_COUNT, file, f"annotations[{index}].keypoints", found)
        else:
            points[row] = np.reshape(values, (count, 3))
    return points, keep


def read_skeleton(file: str | os.PathLike[str]) -> Skeleton:
    """What the keypoints of a COCO json are: of the first category that says so.

    Raises:
        DataError: No category does.
    """
    for key, index, entry in stream_json(file):
        if key == "categories" and index is not None and isinstance(entry, dict) and entry.get("keypoints"):
            skeleton_edges = tuple((int(start) - 1, int(end) - 1) for start, end in entry.get("skeleton", []))
            return Skeleton(tuple(map(str, entry["keypoints"])), skeleton_edges)
    hint = "Name them in categories[].keypoints, or read a person_keypoints json (data.train, data.val)."
    raise DataError("no category has keypoints", file=file, field="categories", hint=hint)


def _entries(file: str | os.PathLike[str], table: BoxTable) -> Iterator[tuple[int, int, Size, dict[str, Any]]]:
    """Index of an annotation, row of its box, size of its image, and the annotation."""
    row_of = np.full(int(table.origin.max(initial=-1)) + 1, -1)
    row_of[table.origin] = np.arange(len(table.origin))
    images = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    for key, index, entry in stream_json(Path(file)):
        if key == "annotations" and index is not None and index < len(row_of) and row_of[index] >= 0:
            height, width = table.sizes[images[row_of[index]]].tolist()
            yield index, int(row_of[index]), (height, width), entry


def _add_mask(gathered: Gathered, value: Any, size: Size, field: str, file: Any, findings: Findings) -> bool:
    """Adds one mask; False where the object is left out."""
    if isinstance(value, dict):
        runs = runs_of(value, size)
        if runs is None:
            stated = f"{value.get('size')}, the image is {list(size)}"
            return findings.add(Kind.MASK_SIZE, file, field, stated)
        if not areas([runs])[0]:
            return findings.add(Kind.MASK_EMPTY, file, field, value.get("counts"))
        gathered.add_runs(runs)
        return True
    if not isinstance(value, list) or not value or not all(map(_is_outline, value)):
        return findings.add(Kind.MASK_ABSENT, file, field, value)
    return add_outlines(gathered, value, size, field, file, findings)


def add_outlines(
    gathered: Gathered, parts: list[list[float]], size: Size, field: str, file: Any, findings: Findings
) -> bool:
    """Adds an object of one or several outlines; False where it is left out.

    Args:
        gathered: Where to.
        parts: x y x y ... in pixels each.
        size: Of the image, (height, width).
        field: Where in the file they stand.
        file: The file.
        findings: Decides about outlines of too few points, and around no pixel.
    """
    whole = [part for part in parts if len(part) >= 2 * LEAST_POINTS]
    for short in (part for part in parts if len(part) < 2 * LEAST_POINTS):
        fixed = findings.add(Kind.OUTLINE_SHORT, file, field, short)
        if not fixed or not whole:
            return False
    if not holds_pixels(whole, size):
        return findings.add(Kind.MASK_EMPTY, file, field, whole)
    gathered.add_outlines(whole)
    return True


def _is_outline(value: Any) -> bool:
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    return numbers and len(value) % 2 == 0 and bool(np.isfinite(value).all())


def _in_order(gathered: Gathered, rows: list[int], count: int) -> tuple[Segmentations, np.ndarray]:
    keep = np.zeros(count, bool)
    keep[rows] = True
    return gathered.packed().take(np.argsort(np.asarray(rows, np.int64), kind="stable")), keep
