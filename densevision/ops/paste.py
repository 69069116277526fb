"""Masks over boxes to masks over images, straight to run lengths: memory is that of the box, never of all masks."""

from __future__ import annotations

import math

import numpy as np

from densevision.ops.masks import RLE, empty, encode_window
from densevision.ops.view import Size


def paste(mask: np.ndarray, box: np.ndarray, size: Size, threshold: float = 0.5) -> RLE:
    """The pixels whose centers lie where a mask over a box is above the threshold.

    The mask is interpolated linearly between the centers of its cells and falls to zero outside.

    Args:
        mask: (R, R) in [0, 1].
        box: xyxy in pixels.
        size: Of the image, (height, width).
        threshold: Between 0 and 1.
    """
    cells = np.asarray(mask, np.float32)
    (top, rows), (left, columns) = (
        _weights(float(box[axis]), float(box[axis + 2]), cells.shape[1 - axis], size[1 - axis]) for axis in (1, 0)
    )
    if not rows.size or not columns.size:
        return empty(size)
    return encode_window(columns @ cells.T @ rows.T > threshold, (left, top), size)


def paste_snapped(mask: np.ndarray, box: np.ndarray, size: Size, threshold: float = 0.5) -> RLE:
    """As `paste`, but as torchvision does it, to the last bit: over whole pixels.

    It adds a cell of zeros on each side, drops the fractions of the box that they fill, counts its last pixel in, and
    stretches the cells over it. Midway between a cell of one and a cell of zero rounding decides, hence PyTorch's own.

    Args:
        mask: (R, R) in [0, 1].
        box: xyxy in pixels.
        size: Of the image, (height, width).
        threshold: Between 0 and 1.
    """
    import torch
    from torch.nn.functional import interpolate

    left, top, right, bottom = _grown(np.asarray(box, np.float32), mask.shape[-1])
    sides = max(bottom - top + 1, 1), max(right - left + 1, 1)
    cells = torch.from_numpy(np.pad(np.asarray(mask, np.float32), 1))[None, None]
    first, last = (max(left, 0), max(top, 0)), (min(right + 1, size[1]), min(bottom + 1, size[0]))
    if first[0] >= last[0] or first[1] >= last[1]:
        return empty(size)
    large = interpolate(cells, sides, mode="bilinear", align_corners=False)[0, 0].numpy()
    seen = large[first[1] - top : last[1] - top, first[0] - left : last[0] - left]
    return encode_window(np.ascontiguousarray((seen > threshold).T), first, size)


def _grown(box: np.ndarray, resolution: int) -> list[int]:
    """A box (4,) with room for a cell more on each side, without the fractions of pixels."""
    share = np.float32((resolution + 2) / resolution)
    half, middle = (box[2:] - box[:2]) * np.float32(0.5), (box[2:] + box[:2]) * np.float32(0.5)
    return np.trunc(np.concatenate([middle - half * share, middle + half * share])).astype(int).tolist()


def _weights(start: float, stop: float, cells: int, limit: int) -> tuple[int, np.ndarray]:
    """How much each pixel from the first takes of each cell: the first pixel, and (pixels, cells) float32."""
    cell = max(stop - start, 1e-6) / cells
    first = max(0, math.floor(start - cell / 2))
    last = min(limit, math.ceil(stop + cell / 2))
    place = (np.arange(first, max(first, last)) + 0.5 - start) / cell - 0.5
    return first, np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32)
