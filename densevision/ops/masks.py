"""Masks as run-length encodings in COCO's format: {"size": [height, width], "counts": text}.

Temporary memory is at most one mask of the image's size, and mostly only the window of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from densevision.errors import DataError
from densevision.ops.view import Size, warp_image

__all__ = [
    "RLE",
    "compute_areas",
    "compute_boxes",
    "crop_to_box",
    "decode",
    "encode",
    "encode_counts",
    "encode_empty",
    "encode_polygons",
    "encode_window",
    "extract_polygons",
    "warp",
]

RLE = dict[str, Any]

_MAX_MASKS_PER_CALL = 255
"""pycocotools counts the masks of a call in a byte."""
_MAX_COORDINATE = 1e12
"""Larger coordinates lose their differences when a polygon is cut."""


def encode(mask: np.ndarray) -> RLE:
    """Encodes a mask (H, W) of bool.

    >>> encode(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    return encode_window(mask.T, (0, 0), (mask.shape[0], mask.shape[1]))


def encode_window(columns: np.ndarray, corner: tuple[int, int], size: Size) -> RLE:
    """Encodes a mask that is empty outside a window.

    Args:
        columns: (w, h) bool, the transposed window.
        corner: x and y of the first pixel of the window.
        size: (height, width) of the whole mask.
    """
    steps = np.diff(columns.astype(np.int8), axis=1, prepend=0, append=0)
    column, row = np.divmod(np.flatnonzero(steps), steps.shape[1])
    changes = (column + corner[0]) * size[0] + row + corner[1]
    # A run that reaches the bottom continues at the top of the next column.
    extended = np.flatnonzero(changes[1:-1:2] == changes[2::2])
    changes = np.delete(changes, np.concatenate([2 * extended + 1, 2 * extended + 2]))
    counts = np.diff(changes, prepend=0, append=size[0] * size[1])
    return encode_counts(counts[:-1] if len(changes) and counts[-1] == 0 else counts, size)


def encode_counts(counts: Sequence[int] | np.ndarray, size: Size) -> RLE:
    """Compresses run lengths, which alternate between background and object in column-major order."""
    height, width = map(int, size)
    runs = {"size": [height, width], "counts": np.asarray(counts).tolist()}
    return _decode_counts(coco_mask.frPyObjects(runs, height, width))


def encode_polygons(polygons: Sequence[np.ndarray], size: Size) -> RLE:
    """Encodes the union of polygons.

    Args:
        polygons: (points, 2) xy in pixels each, at least three points. What lies far outside of the image is cut off:
            pycocotools takes memory for every pixel of an outline.
        size: (height, width).

    Raises:
        DataError: A coordinate is not finite.
    """
    cut = [_cut_to_surroundings(np.asarray(polygon, np.float64).reshape(-1, 2), size) for polygon in polygons]
    flat = [polygon.ravel().tolist() for polygon in cut if len(polygon)]
    if not flat:
        return encode_empty(size)
    return _decode_counts(coco_mask.merge(coco_mask.frPyObjects(flat, *map(int, size))))


def _cut_to_surroundings(polygon: np.ndarray, size: Size) -> np.ndarray:
    """The part of a polygon in the image and its eight neighbors of equal size; unchanged if that is all of it.

    Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    sides = np.array(size[::-1], np.float64)
    if not np.isfinite(polygon).all():
        raise DataError("a polygon with coordinates that are not finite", value=polygon.tolist()[:4])
    if (polygon >= -sides).all() and (polygon <= 2 * sides).all():
        return polygon
    polygon = polygon.clip(-_MAX_COORDINATE, _MAX_COORDINATE)
    for axis in (0, 1):
        for sign, bound in ((1, -sides[axis]), (-1, 2 * sides[axis])):
            points: list[np.ndarray] = []
            for start, end in zip(polygon, np.roll(polygon, -1, 0)):
                before, after = sign * (start[axis] - bound), sign * (end[axis] - bound)
                if before >= 0:
                    points.append(start)
                if (before >= 0) != (after >= 0):
                    points.append(start + (end - start) * (before / (before - after)))
            polygon = np.array(points, np.float64).reshape(-1, 2)
    return polygon


def encode_empty(size: Size) -> RLE:
    """Encodes a mask without pixels."""
    return encode_counts([size[0] * size[1]], size)


def decode(mask: RLE) -> np.ndarray:
    """Decodes to a mask (H, W) of bool; inverse of `encode`."""
    return coco_mask.decode(mask).view(bool)


def compute_areas(masks: Sequence[RLE]) -> np.ndarray:
    """Computes (N,) float64 areas in pixels."""
    starts = range(0, len(masks), _MAX_MASKS_PER_CALL)
    parts = [coco_mask.area(list(masks[start : start + _MAX_MASKS_PER_CALL])) for start in starts]
    return np.concatenate([*parts, np.zeros(0)]).astype(np.float64)


def compute_boxes(masks: Sequence[RLE]) -> np.ndarray:
    """Computes (N, 4) float64 xyxy tight boxes; zeros for a mask without pixels."""
    if not len(masks):
        return np.zeros((0, 4))
    boxes = np.asarray(coco_mask.toBbox(list(masks)), np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def crop_to_box(mask: RLE) -> tuple[np.ndarray, tuple[int, int]]:
    """Decodes the pixels (h, w) of the tight box, and returns them with x and y of its corner."""
    left, top, right, bottom = compute_boxes([mask])[0].astype(int).tolist()
    return decode(mask)[top:bottom, left:right], (left, top)


def warp(mask: RLE, matrix: np.ndarray, size: Size) -> RLE:
    """Warps a mask by an affine map; a pixel belongs to the result if the interpolated mask is at least a half there.

    Args:
        mask: The mask.
        matrix: (2, 3) map to the canvas, in corner coordinates.
        size: (height, width) of the canvas.
    """
    pixels, (x, y) = crop_to_box(mask)
    right, bottom = x + pixels.shape[1], y + pixels.shape[0]
    corners = np.array([[x, y], [right, y], [x, bottom], [right, bottom]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(0)), (size[1], size[0])).astype(int).tolist()
    if not pixels.size or left >= right or top >= bottom:
        return encode_empty(size)
    window_matrix = matrix.astype(np.float64).copy()
    window_matrix[:, 2] += matrix[:, :2] @ (x, y) - (left, top)
    gray = np.where(pixels, np.uint8(255), np.uint8(0))
    warped = warp_image(gray, window_matrix, (bottom - top, right - left), cv2.INTER_LINEAR, 0) >= 128
    return encode_window(warped.T, (left, top), size)


def extract_polygons(mask: RLE) -> list[np.ndarray]:
    """Extracts the outlines of the parts of a mask, (points, 2) float32 xy each; holes are lost.

    The points are a quarter pixel inside the mask, so that `encode_polygons` restores it.
    """
    pixels, corner = crop_to_box(mask)
    if not pixels.size:
        return []
    doubled = np.repeat(np.repeat(pixels.view(np.uint8), 2, 0), 2, 1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = (contour.reshape(-1, 2).astype(np.float32) for contour in contours)
    return [(outline + 0.5) / 2 + np.asarray(corner, np.float32) for outline in outlines]


def _decode_counts(mask: RLE) -> RLE:
    """The encoding with its counts as text, which JSON supports."""
    return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}
