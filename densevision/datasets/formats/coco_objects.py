"""Masks and keypoints of a COCO JSON, for boxes that were read before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.orientation import orient_points, orient_segmentation
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.segmentations import SegmentationBuilder, Segmentations, covers_any_pixel, parse_rle
from densevision.ops.masks import RLE, compute_areas
from densevision.ops.skeleton import Skeleton
from densevision.ops.view import Size

__all__ = [
    "MAX_COORDINATE",
    "MIN_POLYGON_POINTS",
    "check_polygons",
    "parse_segmentation",
    "read_keypoints",
    "read_masks",
    "read_skeleton",
]

MIN_POLYGON_POINTS = 3
MAX_COORDINATE = 1e15
"""Larger coordinates, infinities and NaN are errors."""


def read_masks(file: str | os.PathLike[str], table: BoxTable, issues: LabelIssues) -> tuple[Segmentations, np.ndarray]:
    """Reads the masks of a table: polygons, or run lengths (compressed or not).

    Objects without a valid mask are skipped under `fix` and `skip`.

    Args:
        file: The JSON from which the table was read.
        table: The boxes.
        issues: Reports problems.

    Returns:
        The masks of the objects that stay, in the order of the table, and (M,) bool, which objects stay.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    builder, rows = SegmentationBuilder(), []
    for index, row, image, entry in _iterate_annotations(file, table):
        field, (height, width) = f"annotations[{index}].segmentation", table.label_sizes[image].tolist()
        segmentation = parse_segmentation(entry.get("segmentation"), (height, width), field, file, issues)
        if segmentation is None:
            continue
        if table.orientations is not None:
            size = table.sizes[image, 0].item(), table.sizes[image, 1].item()
            segmentation = orient_segmentation(segmentation, int(table.orientations[image]), size)
        rows.append(row)
        if isinstance(segmentation, dict):
            builder.add_rle(segmentation)
        else:
            builder.add_polygons(segmentation)
    keep = np.zeros(len(table.labels), bool)
    keep[rows] = True
    return builder.build().take(np.argsort(np.asarray(rows, np.int64), kind="stable")), keep


def read_keypoints(
    file: str | os.PathLike[str], table: BoxTable, skeleton: Skeleton, issues: LabelIssues
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the keypoints of a table.

    Returns:
        (M, K, 3) float32 x, y, visibility; and (M,) bool, which objects stay.

    Raises:
        DataError: The number of keypoints differs from the skeleton, and the policy is `fail`.
    """
    count = len(skeleton.names)
    keypoints, keep = np.zeros((len(table.labels), count, 3), np.float32), np.ones(len(table.labels), bool)
    for index, row, image, entry in _iterate_annotations(file, table):
        values: Any = entry.get("keypoints", [0] * 3 * count if entry.get("iscrowd") else None)
        is_numeric = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if not is_numeric or len(values) != 3 * count:
            value = f"{len(values) / 3:g} keypoints, the skeleton has {count}" if is_numeric else values
            keep[row] = issues.add(IssueKind.KEYPOINT_COUNT, file, f"annotations[{index}].keypoints", value)
        else:
            keypoints[row] = np.reshape(values, (count, 3))
            if table.orientations is not None:
                labeled, size = keypoints[row, :, 2] > 0, (table.sizes[image, 0].item(), table.sizes[image, 1].item())
                points = orient_points(keypoints[row, labeled, :2], int(table.orientations[image]), size)
                keypoints[row, labeled, :2] = points
    return keypoints, keep


def read_skeleton(file: str | os.PathLike[str]) -> Skeleton:
    """Reads the skeleton of the first category that has keypoints.

    Raises:
        DataError: No category has keypoints.
    """
    for key, index, entry in stream_json(file):
        if key == "categories" and index is not None and isinstance(entry, dict) and entry.get("keypoints"):
            edges = tuple((int(start) - 1, int(end) - 1) for start, end in entry.get("skeleton", []))
            return Skeleton(tuple(map(str, entry["keypoints"])), edges)
    hint = "Name them in categories[].keypoints, or read a person_keypoints JSON (data.train, data.val)."
    raise DataError("no category has keypoints", file=file, field="categories", hint=hint)


def _iterate_annotations(
    file: str | os.PathLike[str], table: BoxTable
) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Yields the index of an annotation, the rows of its box and its image, and the annotation."""
    row_by_origin = np.full(int(table.origin.max(initial=-1)) + 1, -1)
    row_by_origin[table.origin] = np.arange(len(table.origin))
    images = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    for key, index, entry in stream_json(Path(file)):
        if key == "annotations" and index is not None and index < len(row_by_origin) and row_by_origin[index] >= 0:
            row = int(row_by_origin[index])
            yield index, row, int(images[row]), entry


def parse_segmentation(
    value: Any, size: Size, field: str, file: str | os.PathLike[str], issues: LabelIssues, subject: str | None = None
) -> list[list[float]] | RLE | None:
    """Parses a COCO segmentation: polygons, or run lengths (compressed or not).

    Args:
        value: The segmentation.
        size: (height, width) of the image.
        field: The place of the segmentation in the file.
        file: The file.
        issues: Reports invalid segmentations.
        subject: Name that notes list; the file's name by default.

    Returns:
        Valid polygons, x y x y ... in pixels each, or run lengths; None if the object is skipped.
    """
    if isinstance(value, dict):
        mask = parse_rle(value, size)
        if mask is None:
            stated = f"{value.get('size')}, the image is {list(size)}"
            issues.add(IssueKind.MASK_SIZE, file, field, stated, subject)
        elif not compute_areas([mask])[0]:
            issues.add(IssueKind.MASK_EMPTY, file, field, value.get("counts"), subject)
        else:
            return mask
        return None
    if not isinstance(value, list) or not any(value) or not all(map(_is_polygon, value)):
        issues.add(IssueKind.MASK_ABSENT, file, field, value, subject)
        return None
    return check_polygons(value, size, field, file, issues, subject)


def check_polygons(
    parts: list[list[float]],
    size: Size,
    field: str,
    file: str | os.PathLike[str],
    issues: LabelIssues,
    subject: str | None = None,
) -> list[list[float]] | None:
    """Removes polygons with too few points; None if the object is skipped, or covers no pixel.

    Args:
        parts: Polygons, x y x y ... in pixels each.
        size: (height, width) of the image.
        field: The place of the polygons in the file.
        file: The file.
        issues: Reports invalid polygons.
        subject: Name that notes list; the file's name by default.
    """
    for part in parts:
        if not all(abs(number) < MAX_COORDINATE for number in part):
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, part, subject)
            return None
    polygons = [part for part in parts if len(part) >= 2 * MIN_POLYGON_POINTS]
    for short in (part for part in parts if len(part) < 2 * MIN_POLYGON_POINTS):
        if not issues.add(IssueKind.OUTLINE_SHORT, file, field, short, subject):
            return None
    if not polygons:
        issues.add(IssueKind.MASK_ABSENT, file, field, parts, subject)
        return None
    if not covers_any_pixel(polygons, size):
        issues.add(IssueKind.MASK_EMPTY, file, field, polygons, subject)
        return None
    return polygons


def _is_polygon(value: Any) -> bool:
    is_numeric = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    # Compared as Python numbers: integers of any size have no equal in NumPy.
    return is_numeric and len(value) % 2 == 0 and all(abs(number) < MAX_COORDINATE for number in value)
