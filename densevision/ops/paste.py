"""Masks over boxes to masks over pictures, straight to run lengths: memory is that of the box, never of all masks."""

from __future__ import annotations

import math

import numpy as np

from densevision.ops.masks import RLE, empty, encode_window
from densevision.ops.view import Size


def paste(mask: np.ndarray, box: np.ndarray, size: Size, threshold: float = 0.5) -> RLE:
    """The pixels whose centres lie where a mask over a box is above the threshold.

    The mask is interpolated linearly between the centres of its cells and falls to zero outside.

    Args:
        mask: (R, R) in [0, 1].
        box: xyxy in pixels.
        size: Of the picture, (height, width).
        threshold: Between 0 and 1.
    """
    cells = np.asarray(mask, np.float32)
    (top, rows), (left, columns) = (
        _weights(float(box[axis]), float(box[axis + 2]), cells.shape[1 - axis], size[1 - axis]) for axis in (1, 0)
    )
    if not rows.size or not columns.size:
        return empty(size)
    return encode_window(columns @ cells.T @ rows.T > threshold, (left, top), size)


def snapped(boxes: np.ndarray, resolution: int) -> np.ndarray:
    """Boxes (N, 4) into which `paste` puts a mask of R cells a side as torchvision puts it into the boxes given.

    It adds a cell of zeros on each side, drops the fractions of the box that they fill, counts its last pixel in, and
    stretches the cells over it.
    """
    grown = (resolution + 2) / resolution
    boxes = np.asarray(boxes, np.float32)
    half, middle = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5), (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    start = np.trunc(middle - half * np.float32(grown)).astype(np.float64)
    stop = np.trunc(middle + half * np.float32(grown)).astype(np.float64)
    cell = np.maximum(stop - start + 1, 1) / (resolution + 2)
    return np.concatenate([start + cell, start + cell * (resolution + 1)], 1)


def _weights(start: float, stop: float, cells: int, limit: int) -> tuple[int, np.ndarray]:
    """How much each pixel from the first takes of each cell: the first pixel, and (pixels, cells) float32."""
    cell = max(stop - start, 1e-6) / cells
    first = max(0, math.floor(start - cell / 2))
    last = min(limit, math.ceil(stop + cell / 2))
    place = (np.arange(first, max(first, last)) + 0.5 - start) / cell - 0.5
    return first, np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)
