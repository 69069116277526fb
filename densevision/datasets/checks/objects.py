"""Checks of masks and keypoints against the boxes, areas and counts of their annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.checks.catalog import Check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.formats.coco_lists import to_whole_number
from densevision.io.box_table import BoxTable
from densevision.io.json_stream import stream_json
from densevision.io.segmentations import POLYGONS, Segmentations
from densevision.ops.masks import compute_areas, compute_boxes
from densevision.ops.view import Size

__all__ = [
    "KEYPOINT_CHECKS",
    "MASK_CHECKS",
    "check_keypoints",
    "check_masks",
    "is_self_intersecting",
    "read_areas",
]

AREA_SHARE, AREA_PIXELS = 0.1, 16.0
"""Tolerated difference of areas: a fraction of the annotated area, or pixels if that is more."""
BOX_SHARE, BOX_PIXELS = 0.1, 3.0
"""Tolerated difference of the boxes' sides: a fraction of the longer side, or pixels if that is more."""
MAX_CORNERS = 1500
"""Polygons with more corners are not checked for intersections, which takes quadratic time."""

AREA = Check(
    "mask-area",
    "warning",
    "a mask whose area differs from the annotated one",
    "Recompute the area: it decides which objects count as small, medium or large.",
)
BOX_MISMATCH = Check(
    "mask-box-mismatch",
    "warning",
    "a mask that does not fill its box",
    "Check that mask and box belong to the same object and to the same image size.",
)
SELF_INTERSECTION = Check(
    "polygon-self-intersection",
    "warning",
    "a polygon whose edges cross",
    "Draw it again: tools disagree on whether its loops are inside.",
)
POINT_OUTSIDE = Check(
    "keypoint-outside", "warning", "a visible keypoint outside the image", "Correct it, or mark it 0 (not labeled)."
)
VISIBILITY = Check(
    "keypoint-visibility",
    "error",
    "a keypoint whose visibility is not 0, 1 or 2",
    "Write 0 (not labeled), 1 (labeled, hidden) or 2 (visible).",
)
POINT_NUMBER = Check(
    "keypoint-number",
    "warning",
    "an object whose num_keypoints is not the number of its labeled keypoints",
    "Recount them: keypoint evaluation ignores objects with 0.",
)
MASK_CHECKS = (AREA, BOX_MISMATCH, SELF_INTERSECTION)
KEYPOINT_CHECKS = (POINT_OUTSIDE, VISIBILITY, POINT_NUMBER)
MaskFinding = tuple[Check, int, "str | None"]
"""A failed check, the row of its object, and details."""


def check_masks(
    context: CheckContext,
    boxes: BoxTable,
    masks: Segmentations,
    folder: Path,
    areas: Mapping[int, float],
    title: str,
) -> None:
    """Reports masks that differ from their annotated areas and boxes, and self-intersecting polygons.

    Args:
        context: Collects the findings.
        boxes: The objects of a split.
        masks: Their masks.
        folder: The folder of the images.
        areas: Origin of an object -> its annotated area.
        title: Of the progress bar.
    """
    results = context.map_parallel(_build_checker(boxes, masks, areas), range(len(boxes)), title)
    for image, findings in enumerate(results):
        for check, row, value in findings:
            box = " ".join(f"{side:g}" for side in boxes.boxes[row].round(1).tolist())
            context.add(check, folder / boxes.files[image], f"{boxes.names[boxes.labels[row]]} at {box}", value)


def check_keypoints(context: CheckContext, file: Path, sizes: Mapping[int, Size]) -> None:
    """Reports keypoints of a COCO JSON with an invalid visibility, position or count.

    Args:
        context: Collects the findings.
        file: The JSON.
        sizes: Image id -> (height, width); annotations of other images are ignored.
    """
    for key, index, entry in stream_json(file):
        if key != "annotations" or not isinstance(entry, dict) or _get_image_id(entry) not in sizes:
            continue
        values = entry.get("keypoints")
        if not isinstance(values, list) or len(values) % 3 or not all(type(x) in (int, float) for x in values):
            continue
        points = np.reshape(values, (-1, 3))
        field, visibility = f"annotations[{index}].keypoints", points[:, 2]
        is_invalid = ~np.isin(visibility, (0, 1, 2))
        if is_invalid.any():
            context.add(VISIBILITY, file, field, f"visibility {visibility[is_invalid][0]:g}")
        height, width = sizes[entry["image_id"]]
        x, y = points[visibility > 0, 0], points[visibility > 0, 1]
        is_outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        if is_outside.any():
            value = f"{x[is_outside][0]:g}, {y[is_outside][0]:g} in {width} x {height}"
            context.add(POINT_OUTSIDE, file, field, value)
        number, labeled = entry.get("num_keypoints"), int((visibility > 0).sum())
        if number is not None and number != labeled:
            context.add(POINT_NUMBER, file, f"annotations[{index}].num_keypoints", f"{number}, but {labeled} labeled")


def read_areas(file: Path) -> dict[int, float]:
    """Reads the areas of a COCO JSON: index of an annotation -> its area."""
    return {
        index: float(entry["area"])
        for key, index, entry in stream_json(file)
        if key == "annotations" and index is not None and isinstance(entry, dict)
        if type(entry.get("area")) in (int, float)
    }


def is_self_intersecting(polygon: np.ndarray) -> bool:
    """Whether two edges of a closed polygon (n, 2) cross; touching edges do not count.

    >>> is_self_intersecting(np.array([[0, 0], [4, 4], [4, 0], [0, 4]]))
    True
    """
    starts, ends = polygon.astype(np.float64), np.roll(polygon, -1, 0).astype(np.float64)
    if len(starts) < 4 or len(starts) > MAX_CORNERS:
        return False
    start_sides = _compute_sides(starts[:, None], ends[:, None], starts[None])
    end_sides = _compute_sides(starts[:, None], ends[:, None], ends[None])
    is_opposite = start_sides * end_sides < 0
    return bool((is_opposite & is_opposite.T).any())


def _get_image_id(entry: dict[str, Any]) -> int | None:
    image_id = to_whole_number(entry.get("image_id"))
    return image_id if type(image_id) is int else None


def _build_checker(
    boxes: BoxTable, masks: Segmentations, areas: Mapping[int, float]
) -> Callable[[int], list[MaskFinding]]:
    """Builds a function that checks the masks of one image."""

    def check_image(image: int) -> list[MaskFinding]:
        rows = range(int(boxes.offsets[image]), int(boxes.offsets[image + 1]))
        height, width = boxes.sizes[image].tolist()
        encoded = [masks.mask(row, (height, width)) for row in rows]
        findings: list[MaskFinding] = []
        for row, mask_area, mask_box in zip(rows, compute_areas(encoded).tolist(), compute_boxes(encoded)):
            findings += _check_mask(boxes, row, mask_area, mask_box, areas.get(int(boxes.origin[row])))
            if masks.kinds[row] == POLYGONS and any(map(is_self_intersecting, masks.polygons(row))):
                findings.append((SELF_INTERSECTION, row, None))
        return findings

    return check_image


def _check_mask(
    boxes: BoxTable, row: int, mask_area: float, mask_box: np.ndarray, area: float | None
) -> Iterator[MaskFinding]:
    """Compares the area and the tight box of a mask with those of its annotation."""
    if area is not None and abs(mask_area - area) > max(AREA_SHARE * area, AREA_PIXELS):
        yield AREA, row, f"{area:g} annotated, {mask_area:g} measured"
    box = boxes.boxes[row]
    difference = float(np.abs(mask_box - box).max())
    if not boxes.crowd[row] and difference > max(BOX_SHARE * float((box[2:] - box[:2]).max()), BOX_PIXELS):
        yield BOX_MISMATCH, row, f"a side differs by {difference:.1f} pixels"


def _compute_sides(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Returns the side of an edge that a point is on, 1 or -1; 0 if it is on the line."""
    edge, vector = end - start, point - start
    return np.sign(edge[..., 0] * vector[..., 1] - edge[..., 1] * vector[..., 0])
