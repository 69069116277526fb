"""Interpolation of MATLAB's `imresize`, with which super-resolution papers make and evaluate their images.

Source: the documentation of MATLAB's imresize; Keys, Cubic convolution interpolation, 1981, with a = -0.5. Downscaling
widens the kernel (antialiasing), and images are padded by reflection, including the edge pixel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from densevision.ops.view import Size

__all__ = ["Kernel", "enlarge", "imresize"]

Kernel = Literal["nearest", "bilinear", "bicubic"]
KERNEL_WIDTHS: dict[str, float] = {"nearest": 1.0, "bilinear": 2.0, "bicubic": 4.0}
"""Kernel -> width of its support, in pixels."""
_RADIUS = 2
"""Maximum distance of the pixels that an enlarged pixel depends on."""


def imresize(image: Tensor, size: Size, kernel: Kernel = "bicubic") -> Tensor:
    """Resizes images, with antialiasing when downscaling.

    Args:
        image: (B, C, H, W) float.
        size: (height, width) of the result.
        kernel: Interpolation kernel; `nearest` is never antialiased, as in MATLAB.

    Returns:
        (B, C, *size), not clipped: bicubic interpolation overshoots at edges.

    >>> imresize(torch.tensor([[[[0.0, 0, 1, 1]]]]), (1, 2), "bilinear")
    tensor([[[[0.1250, 0.8750]]]])
    """
    return _resize_axis(_resize_axis(image, 2, size[0], kernel), 3, size[1], kernel)


def enlarge(image: Tensor, scale: int, kernel: Kernel = "bicubic") -> Tensor:
    """Equals `imresize` by an integer factor, but uses only sums: exportable for any size, and exact under autocast.

    Args:
        image: (B, C, H, W) float.
        scale: Integer factor; 1 returns the image.
        kernel: Interpolation kernel.

    Returns:
        (B, C, scale * H, scale * W).
    """
    for axis in (2, 3) if scale > 1 else ():
        length = image.shape[axis]
        padded = _pad_by_reflection(image, axis)
        phases = []
        for taps in _compute_phases(scale, kernel):
            terms = [weight * padded.narrow(axis, _RADIUS + offset, length) for offset, weight in taps]
            phases.append(sum(terms[1:], terms[0]))
        image = torch.stack(phases, axis + 1).flatten(axis, axis + 1)
    return image


def _pad_by_reflection(image: Tensor, axis: int) -> Tensor:
    """Pads `_RADIUS` reflected pixels at both ends of an axis."""
    # Three copies are long enough to be cut from even for a single pixel: a condition could not be exported.
    copies = torch.cat([image, image.flip(axis), image], axis)
    before = copies.narrow(axis, 0, _RADIUS).flip(axis)
    after = copies.narrow(axis, copies.shape[axis] - _RADIUS, _RADIUS).flip(axis)
    return torch.cat([before, image, after], axis)


@lru_cache(maxsize=64)
def _compute_phases(scale: int, kernel: Kernel) -> list[list[tuple[int, float]]]:
    """Offsets and weights of the input pixels, for each of the `scale` pixels that one pixel becomes."""
    length = 2 * _RADIUS + 3
    positions, weights = _compute_taps(length, length * scale, kernel)
    middle = length // 2
    rows = slice(middle * scale, (middle + 1) * scale)
    return [
        [(int(position) - middle, float(weight)) for position, weight in zip(*row) if weight]
        for row in zip(positions[rows].tolist(), weights[rows].tolist())
    ]


def _resize_axis(image: Tensor, axis: int, target: int, kernel: Kernel) -> Tensor:
    length = image.shape[axis]
    if length == target:
        return image
    positions, weights = map(torch.from_numpy, _compute_taps(length, target, kernel))
    weights = weights.to(image.dtype).reshape(1, 1, *((-1, 1) if axis == 2 else (1, -1)), weights.shape[1])
    total = torch.zeros((), dtype=image.dtype)
    # One tap at a time: all at once would need the memory of as many images.
    for tap in range(weights.shape[-1]):
        total = total + image.index_select(axis, positions[:, tap]) * weights[..., tap]
    return total


def _compute_taps(length: int, target: int, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Input positions of each output pixel along an axis, (target, taps), and their float64 weights, which sum to 1."""
    scale = target / length
    kernel_scale = min(scale, 1.0) if kernel != "nearest" else 1.0
    width = KERNEL_WIDTHS[kernel] / kernel_scale
    centers = (np.arange(target) + 0.5) / scale - 0.5
    first = np.floor(centers - width / 2)
    positions = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = _evaluate_kernel((centers[:, None] - positions) * kernel_scale, kernel)
    weights = weights / weights.sum(1, keepdims=True)
    is_used = (weights != 0).any(0)
    return _reflect(positions[:, is_used].astype(np.int64), length), weights[:, is_used]


def _evaluate_kernel(x: np.ndarray, kernel: Kernel) -> np.ndarray:
    if kernel == "nearest":
        return ((x >= -0.5) & (x < 0.5)).astype(x.dtype)
    x = np.abs(x)
    if kernel == "bilinear":
        return (1 - x).clip(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _reflect(positions: np.ndarray, length: int) -> np.ndarray:
    """Maps positions outside a line into it by reflection, including the edge pixel."""
    positions = positions % (2 * length)
    return np.where(positions < length, positions, 2 * length - 1 - positions)
