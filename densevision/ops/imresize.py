"""Interpolation as MATLAB's `imresize` does it, by which super-resolution papers make and judge their images.

Source: the documentation of MATLAB's imresize; Keys, Cubic convolution interpolation, 1981, with a = -0.5. Shrinking
widens the kernel (antialiasing), and beyond its edges an image is continued by its mirror image.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from densevision.ops.view import Size

Kernel = Literal["nearest", "bilinear", "bicubic"]
WIDTHS: dict[str, float] = {"nearest": 1.0, "bilinear": 2.0, "bicubic": 4.0}
"""Kernel -> extent of its support, in pixels."""
_REACH = 2
"""Pixels to either side that an enlarged pixel depends on at most."""


def imresize(image: Tensor, size: Size, kernel: Kernel = "bicubic") -> Tensor:
    """Resizes images, antialiased where they shrink.

    Args:
        image: (B, C, H, W) float.
        size: (height, width) of the result.
        kernel: `nearest` is never antialiased, as in MATLAB.

    Returns:
        (B, C, *size), not clipped: a cubic overshoots at edges.

    >>> imresize(torch.tensor([[[[0.0, 0, 1, 1]]]]), (1, 2), "bilinear")
    tensor([[[[0.1250, 0.8750]]]])
    """
    return _resized(_resized(image, 2, size[0], kernel), 3, size[1], kernel)


def enlarge(image: Tensor, scale: int, kernel: Kernel = "bicubic") -> Tensor:
    """`imresize` to `scale` times the size, by sums alone: exportable for any size, and exact under autocast.

    Args:
        image: (B, C, H, W) float.
        scale: A whole number; at 1 the image comes back.
        kernel: Of the interpolation.

    Returns:
        (B, C, scale * H, scale * W).
    """
    for axis in (2, 3) if scale > 1 else ():
        length = image.shape[axis]
        padded = _continued(image, axis)
        optimizer_names = [
            sum(weight * padded.narrow(axis, _REACH + offset, length) for offset, weight in optimizer_name)
            for optimizer_name in _phases(scale, kernel)
        ]
        image = torch.stack(optimizer_names, axis + 1).flatten(axis, axis + 1)
    return image


def _continued(image: Tensor, axis: int) -> Tensor:
    """The image with `_REACH` pixels of its mirror image at both ends."""
    # Between its copies and their mirror image even a single pixel is long enough to be cut from: exports want no ifs.
    copies = torch.cat([image, image.flip(axis), image], axis)
    before = copies.narrow(axis, 0, _REACH).flip(axis)
    after = copies.narrow(axis, copies.shape[axis] - _REACH, _REACH).flip(axis)
    return torch.cat([before, image, after], axis)


@lru_cache(maxsize=64)
def _phases(scale: int, kernel: Kernel) -> list[list[tuple[int, float]]]:
    """For each of the `scale` pixels that one becomes: which neighbors it is made of, and their weights."""
    length = 2 * _REACH + 3
    positions, weights = _taps(length, length * scale, kernel)
    middle = length // 2
    rows = slice(middle * scale, (middle + 1) * scale)
    return [
        [(int(position) - middle, float(weight)) for position, weight in zip(*row) if weight]
        for row in zip(positions[rows].tolist(), weights[rows].tolist())
    ]


def _resized(image: Tensor, axis: int, target: int, kernel: Kernel) -> Tensor:
    length = image.shape[axis]
    if length == target:
        return image
    positions, weights = map(torch.from_numpy, _taps(length, target, kernel))
    weights = weights.to(image.dtype).reshape(1, 1, *((-1, 1) if axis == 2 else (1, -1)), weights.shape[1])
    total = torch.zeros((), dtype=image.dtype)
    # One tap at a time: all at once would need the memory of as many images.
    for tap in range(weights.shape[-1]):
        total = total + image.index_select(axis, positions[:, tap]) * weights[..., tap]
    return total


def _taps(length: int, target: int, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel of a resized line is made of: (target, taps) positions, and float64 weights that sum to 1."""
    scale = target / length
    squeeze = min(scale, 1.0) if kernel != "nearest" else 1.0
    width = WIDTHS[kernel] / squeeze
    centers = (np.arange(target) + 0.5) / scale - 0.5
    first = np.floor(centers - width / 2)
    positions = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = _kernel((centers[:, None] - positions) * squeeze, kernel)
    weights = weights / weights.sum(1, keepdims=True)
    used = (weights != 0).any(0)
    return _mirrored(positions[:, used].astype(np.int64), length), weights[:, used]


def _kernel(x: np.ndarray, kernel: Kernel) -> np.ndarray:
    if kernel == "nearest":
        return ((x >= -0.5) & (x < 0.5)).astype(x.dtype)
    x = np.abs(x)
    if kernel == "bilinear":
        return (1 - x).clip(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _mirrored(positions: np.ndarray, length: int) -> np.ndarray:
    """Positions on a line that is continued by its mirror image, edge pixels twice."""
    positions = positions % (2 * length)
    return np.where(positions < length, positions, 2 * length - 1 - positions)
