"""Labels of images with an EXIF orientation: for the upright images, or for the stored pixels.

Images are always read upright. Some tools label the stored pixels instead, and their files state the stored size. One
decision is made for all images of a label file, from the stated sizes and the boxes; then labels are turned like the
images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from densevision.errors import DataError
from densevision.io import decode
from densevision.io.box_table import BoxTable, StringArray
from densevision.io.image import read_orientation
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import RLE
from densevision.ops.masks import decode as decode_mask
from densevision.ops.masks import encode as encode_mask
from densevision.ops.view import Size

__all__ = [
    "find_label_orientations",
    "orient_boxes",
    "orient_points",
    "orient_segmentation",
    "restore_labels",
]

TOLERANCE = 2.0
"""Pixels by which a box may extend beyond its image and still count as inside."""
MAX_MISFIT_RATIO = 0.1
"""A coordinate system is accepted if at most this fraction as many boxes are outside as in the other one."""
TURNED = "labels turned with the image"
AXES = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}
"""EXIF orientation -> matrix from stored to upright coordinates; a negative axis starts at the opposite side."""


def find_label_orientations(
    files: StringArray,
    folder: Path,
    stated: np.ndarray,
    sizes: np.ndarray,
    list_boxes: Callable[[], tuple[np.ndarray, np.ndarray]],
    issues: LabelIssues,
) -> np.ndarray:
    """Decides whether labels are for stored pixels, and returns the orientations by which they must be turned.

    Labels are for stored pixels if all images that the orientation turns by 90 degrees are stated with their stored
    size, and the boxes fit it. They are for upright images if no image is, or if the boxes fit only the upright size.
    Otherwise the images with a stored size are reported as unclear and skipped.

    Args:
        files: n images.
        folder: The folder that they are relative to.
        stated: (n, 2) height and width in the label file; not positive if missing.
        sizes: (n, 2) upright sizes of the files; 0 for images that are skipped. Modified in place: images with unclear
            orientation become 0.
        list_boxes: Returns boxes (M, 4) xyxy as in the label file, and the rows (M,) of their images; called only if an
            image is stated with its stored size.
        issues: Reports images with turned labels and with unclear orientation.

    Returns:
        (n,) EXIF orientations; 1 for labels that stay as they are.

    Raises:
        DataError: An orientation is unclear, and the policy is `fail`.
    """
    upright = np.ones(len(files), np.uint8)
    is_known = (sizes > 0).all(1) & (stated > 0).all(1) & (sizes[:, 0] != sizes[:, 1])
    if not (is_known & (stated == sizes[:, ::-1]).all(1)).any():
        return upright
    orientations = upright.copy()
    for row in np.flatnonzero(sizes[:, 0]).tolist():
        orientations[row] = _read_orientation(folder / files[row])
    is_quarter_turn = is_known & (orientations >= 5)
    is_stored = is_quarter_turn & (stated == sizes[:, ::-1]).all(1)
    decision = _decide(is_quarter_turn, is_stored, sizes, *list_boxes())
    if decision == "unclear":
        for row in np.flatnonzero(is_stored).tolist():
            value = f"orientation {orientations[row]}"
            issues.add(IssueKind.ORIENTATION_UNCLEAR, folder / files[row], "Orientation", value, files[row])
            sizes[row] = 0
    if decision != "stored":
        return upright
    for row in np.flatnonzero(orientations > 1).tolist():
        value = f"orientation {orientations[row]}"
        issues.warn(IssueKind.LABELS_TURNED, folder / files[row], "Orientation", value, files[row], TURNED)
    return orientations


def orient_points(points: np.ndarray, orientation: int, size: Size) -> np.ndarray:
    """Maps points (..., 2) xy of the stored pixels to the upright image.

    Args:
        points: Points in pixels.
        orientation: EXIF orientation, 1 to 8.
        size: (height, width) of the upright image.
    """
    if orientation == 1:
        return points
    axes = np.array(AXES[orientation], np.float64)
    return points @ axes.T + np.where(axes.sum(1) < 0, size[::-1], 0)


def orient_boxes(boxes: np.ndarray, orientations: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Maps boxes (M, 4) xyxy of the stored pixels to the upright images.

    Args:
        boxes: Boxes in pixels; corners in any order keep it, so that invalid boxes can still be detected.
        orientations: (M,) EXIF orientations.
        sizes: (M, 2) (height, width) of the upright images.
    """
    oriented = boxes.copy()
    for row in np.flatnonzero(orientations > 1).tolist():
        height, width = sizes[row].tolist()
        first, second = orient_points(boxes[row].reshape(2, 2), int(orientations[row]), (height, width))
        is_negative = np.array(AXES[int(orientations[row])]).sum(1) < 0
        oriented[row] = np.concatenate([np.where(is_negative, second, first), np.where(is_negative, first, second)])
    return oriented


def orient_segmentation(segmentation: list[list[float]] | RLE, orientation: int, size: Size) -> list[list[float]] | RLE:
    """Maps polygons or run lengths of the stored pixels to the upright image.

    Args:
        segmentation: Polygons x y x y ..., or run lengths.
        orientation: EXIF orientation, 1 to 8.
        size: (height, width) of the upright image.
    """
    if orientation == 1:
        return segmentation
    if isinstance(segmentation, dict):
        return encode_mask(decode.apply_orientation(decode_mask(segmentation), orientation))
    return [orient_points(np.reshape(part, (-1, 2)), orientation, size).ravel().tolist() for part in segmentation]


def restore_labels(table: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (M, 4) and image sizes (n, 2) of a table in the coordinates of its label file."""
    if table.orientations is None:
        return table.boxes, table.sizes
    inverse = table.orientations.copy()
    inverse[table.orientations == 6], inverse[table.orientations == 8] = 8, 6
    counts = np.diff(table.offsets)
    boxes = orient_boxes(table.boxes, np.repeat(inverse, counts), np.repeat(table.label_sizes, counts, axis=0))
    return boxes, table.label_sizes


def _decide(
    is_quarter_turn: np.ndarray, is_stored: np.ndarray, sizes: np.ndarray, boxes: np.ndarray, images: np.ndarray
) -> Literal["upright", "stored", "unclear"]:
    if not is_stored.any():
        return "upright"
    if (is_quarter_turn & ~is_stored).any():
        return "unclear"
    rows = np.flatnonzero(is_stored[images])
    stored_misfits = _count_misfits(boxes[rows], sizes[images[rows], ::-1])
    upright_misfits = _count_misfits(boxes[rows], sizes[images[rows]])
    if stored_misfits <= MAX_MISFIT_RATIO * upright_misfits:
        return "stored"
    return "upright" if upright_misfits <= MAX_MISFIT_RATIO * stored_misfits else "unclear"


def _count_misfits(boxes: np.ndarray, sizes: np.ndarray) -> int:
    """Counts the boxes that extend beyond their images."""
    limits = np.tile(sizes[:, ::-1], 2) + TOLERANCE
    return int(((boxes < -TOLERANCE) | (boxes > limits)).any(1).sum())


def _read_orientation(path: Path) -> int:
    try:
        return read_orientation(path)
    except DataError:
        return 1
