"""Pastes masks predicted over boxes into images, directly as run lengths: memory is that of one box."""

from __future__ import annotations

import math

import numpy as np

from densevision.ops.masks import RLE, encode_empty, encode_window
from densevision.ops.view import Size

__all__ = ["paste_mask", "paste_mask_torchvision"]


def paste_mask(mask: np.ndarray, box: np.ndarray, size: Size, threshold: float = 0.5) -> RLE:
    """Selects the pixels whose centers lie where a mask over a box is above the threshold.

    The mask is interpolated linearly between the centers of its cells and falls to zero outside.

    Args:
        mask: (R, R) in [0, 1].
        box: xyxy in pixels.
        size: (height, width) of the image.
        threshold: Between 0 and 1.
    """
    cells = np.asarray(mask, np.float32)
    (top, rows), (left, columns) = (
        _compute_weights(float(box[axis]), float(box[axis + 2]), cells.shape[1 - axis], size[1 - axis])
        for axis in (1, 0)
    )
    if not rows.size or not columns.size:
        return encode_empty(size)
    return encode_window(columns @ cells.T @ rows.T > threshold, (left, top), size)


def paste_mask_torchvision(mask: np.ndarray, box: np.ndarray, size: Size, threshold: float = 0.5) -> RLE:
    """Pastes a mask exactly as torchvision's `paste_masks_in_image` does, over whole pixels.

    It pads the mask by a cell of zeros on each side, expands the box accordingly, truncates it to whole pixels, the
    last one included, and interpolates the cells over them with PyTorch, whose rounding decides midway between cells.

    Args:
        mask: (R, R) in [0, 1].
        box: xyxy in pixels.
        size: (height, width) of the image.
        threshold: Between 0 and 1.
    """
    import torch
    from torch.nn.functional import interpolate

    left, top, right, bottom = _expand_box(np.asarray(box, np.float32), mask.shape[-1])
    sides = max(bottom - top + 1, 1), max(right - left + 1, 1)
    cells = torch.from_numpy(np.pad(np.asarray(mask, np.float32), 1))[None, None]
    first, last = (max(left, 0), max(top, 0)), (min(right + 1, size[1]), min(bottom + 1, size[0]))
    if first[0] >= last[0] or first[1] >= last[1]:
        return encode_empty(size)
    resized = interpolate(cells, sides, mode="bilinear", align_corners=False)[0, 0].numpy()
    inside = resized[first[1] - top : last[1] - top, first[0] - left : last[0] - left]
    return encode_window(np.ascontiguousarray((inside > threshold).T), first, size)


def _expand_box(box: np.ndarray, resolution: int) -> list[int]:
    """Expands a box (4,) by one cell on each side, and truncates it to whole pixels."""
    factor = np.float32((resolution + 2) / resolution)
    half, center = (box[2:] - box[:2]) * np.float32(0.5), (box[2:] + box[:2]) * np.float32(0.5)
    return np.trunc(np.concatenate([center - half * factor, center + half * factor])).astype(int).tolist()


def _compute_weights(start: float, stop: float, cells: int, limit: int) -> tuple[int, np.ndarray]:
    """Interpolation weights of the cells along an axis: index of the first pixel, and (pixels, cells) float32."""
    cell = max(stop - start, 1e-6) / cells
    first = max(0, math.floor(start - cell / 2))
    last = min(limit, math.ceil(stop + cell / 2))
    position = (np.arange(first, max(first, last)) + 0.5 - start) / cell - 0.5
    return first, np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells))).astype(np.float32)
