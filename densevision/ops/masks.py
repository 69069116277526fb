"""Masks as run-length encodings in COCO's form: {"size": [height, width], "counts": text}.

Nothing here ever holds more than one mask of an image's size, and most hold only the window that an object fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from densevision.ops.view import Size, warp_image

RLE = dict[str, Any]

BYTE = 255
"""Largest number that a byte holds."""


def encode(mask: np.ndarray) -> RLE:
    """The encoding of a mask (H, W) of bool.

    >>> encode(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    return encode_window(mask.T, (0, 0), mask.shape)


def encode_window(columns: np.ndarray, corner: tuple[int, int], size: Size) -> RLE:
    """The encoding of a mask that is empty outside a window.

    Args:
        columns: (w, h) bool, the window column by column.
        corner: x and y of the window's first pixel.
        size: Of the whole mask, (height, width).
    """
    steps = np.diff(columns.astype(np.int8), axis=1, prepend=0, append=0)
    column, row = np.divmod(np.flatnonzero(steps), steps.shape[1])
    turns = (column + corner[0]) * size[0] + row + corner[1]
    # A run that reaches the bottom goes on at the top of the next column.
    broken = np.flatnonzero(turns[1:-1:2] == turns[2::2])
    turns = np.delete(turns, np.concatenate([2 * broken + 1, 2 * broken + 2]))
    counts = np.diff(turns, prepend=0, append=size[0] * size[1])
    return from_counts(counts[:-1] if len(turns) and counts[-1] == 0 else counts, size)


def from_counts(counts: Sequence[int] | np.ndarray, size: Size) -> RLE:
    """The encoding whose runs, empty and full in turn and column by column, have these lengths."""
    height, width = map(int, size)
    return _text(coco.frPyObjects({"size": [height, width], "counts": np.asarray(counts).tolist()}, height, width))


def from_polygons(polygons: Sequence[np.ndarray], size: Size) -> RLE:
    """The encoding of the union of polygons.

    Args:
        polygons: (points, 2) xy in pixels each.
        size: (height, width).
    """
    flat = [np.asarray(polygon, np.float64).ravel().tolist() for polygon in polygons]
    return _text(coco.merge(coco.frPyObjects(flat, *map(int, size)))) if flat else empty(size)


def empty(size: Size) -> RLE:
    """The encoding of no pixel."""
    return from_counts([size[0] * size[1]], size)


def decode(mask: RLE) -> np.ndarray:
    """The mask (H, W) of bool; inverse of `encode`."""
    return coco.decode(mask).view(bool)


def areas(masks: Sequence[RLE]) -> np.ndarray:
    """(N,) float64 numbers of pixels."""
    # pycocotools counts the masks of one call in a byte.
    parts = [coco.area(list(masks[start : start + BYTE])) for start in range(0, len(masks), BYTE)]
    return np.concatenate([*parts, np.zeros(0)]).astype(np.float64)


def boxes(masks: Sequence[RLE]) -> np.ndarray:
    """(N, 4) float64 xyxy, the tight boxes; zeros for a mask without pixels."""
    if not len(masks):
        return np.zeros((0, 4))
    corners = np.asarray(coco.toBbox(list(masks)), np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners


def window(mask: RLE) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels (h, w) of the tight box, and its x and y."""
    left, top, right, bottom = boxes([mask])[0].astype(int).tolist()
    return decode(mask)[top:bottom, left:right], (left, top)


def warp(mask: RLE, matrix: np.ndarray, size: Size) -> RLE:
    """The mask as seen through an affine map: each pixel is taken where the map says at least half of it is.

    Args:
        mask: The mask.
        matrix: (2, 3) map to the canvas, in corner coordinates.
        size: Canvas (height, width).
    """
    pixels, (x, y) = window(mask)
    corners = np.array(
        [[x, y], [x + pixels.shape[1], y], [x, y + pixels.shape[0]], [x + pixels.shape[1], y + pixels.shape[0]]]
    )
    receptive_field_radius = corners @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.maximum(np.floor(receptive_field_radius.min(0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(receptive_field_radius.max(0)), (size[1], size[0])).astype(int).tolist()
    if not pixels.size or left >= right or top >= bottom:
        return empty(size)
    local = matrix.astype(np.float64).copy()
    local[:, 2] += matrix[:, :2] @ (x, y) - (left, top)
    gray = np.where(pixels, np.uint8(255), np.uint8(0))
    moved = warp_image(gray, local, (bottom - top, right - left), cv2.INTER_LINEAR, 0) >= 128
    return encode_window(moved.T, (left, top), size)


def polygons(mask: RLE) -> list[np.ndarray]:
    """Outlines of the parts of a mask, (points, 2) float32 xy each, a quarter of a pixel inside; holes are lost."""
    pixels, corner = window(mask)
    if not pixels.size:
        return []
    doubled = np.repeat(np.repeat(pixels.view(np.uint8), 2, 0), 2, 1)
    outlines, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = (outline.reshape(-1, 2).astype(np.float32) for outline in outlines)
    return [(outline + 0.5) / 2 + np.asarray(corner, np.float32) for outline in points]


def _text(mask: RLE) -> RLE:
    return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}
