"""RoIAlign over a feature pyramid: each box reads from the level of its size.

Source: He et al., Mask R-CNN, ICCV 2017, section 3 (RoIAlign); Lin et al., Feature Pyramid Networks, CVPR 2017, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

__all__ = ["assign_levels", "find_occupied", "make_rois", "pool", "roi_align_cpu", "scatter_to_slots"]

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A box of this side reads from the level of stride 2^4."""
SAMPLING_RATIO = 2
"""Sampling points per side of each cell."""


def pool(levels: Sequence[Tensor], strides: Sequence[int], rois: Tensor, resolution: int) -> Tensor:
    """Features (N, C, resolution, resolution) of boxes.

    Args:
        levels: (B, C, H, W) features, shallow to deep.
        strides: Pixels per cell of each level.
        rois: (N, 5): row of the image in the batch, and the box in pixels of the canvas.
        resolution: Cells per side.
    """
    level_of_roi = assign_levels(rois[:, 1:], strides)
    if torch.compiler.is_exporting():
        # A graph of fixed shapes pools every box from every level, and keeps one.
        pooled = (_roi_align(level, rois, stride, resolution) for level, stride in zip(levels, strides))
        return reduce(torch.add, (part * (level_of_roi == i)[:, None, None, None] for i, part in enumerate(pooled)))
    align = roi_align_cpu if rois.device.type == "cpu" else _roi_align
    shape = (rois.shape[0], resolution, resolution, levels[0].shape[1])
    result = levels[0].new_zeros(shape, dtype=torch.float32)
    for i, (level, stride) in enumerate(zip(levels, strides)):
        rows = (level_of_roi == i).nonzero()[:, 0]
        if rows.numel():
            result = result.index_copy(0, rows, align(level, rois[rows], stride, resolution).permute(0, 2, 3, 1))
    return result.permute(0, 3, 1, 2)


def assign_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(N,) position of the level from which boxes (N, 4) read.

    >>> assign_levels(torch.tensor([[0.0, 0, 20, 20], [0, 0, 224, 224], [0, 0, 999, 999]]), [4, 8, 16, 32])
    tensor([0, 2, 3])
    """
    first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (CANONICAL_LEVEL + (side / CANONICAL_SIDE).log2() + 1e-6).floor()
    return level.clamp(first, last).long() - first


def find_occupied(valid: Tensor) -> Tensor | None:
    """(N,) positions of the valid slots of (B, K); None in an exported graph, which computes all of them."""
    return None if torch.compiler.is_exporting() else valid.flatten().nonzero()[:, 0]


def make_rois(boxes: Tensor, slots: Tensor | None) -> Tensor:
    """(N, 5) image and box of the slots, or of all of them, from boxes (B, K, 4)."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    image = image[:, None, None].expand(-1, boxes.shape[1], 1)
    rois = torch.cat([image, boxes], 2).flatten(0, 1)
    return rois if slots is None else rois[slots]


def scatter_to_slots(values: Tensor, slots: Tensor | None, valid: Tensor) -> Tensor:
    """Values (N, ...) of the slots back in their places, zero elsewhere: (B, K, ...) for `valid` (B, K)."""
    if slots is not None:
        values = values.new_zeros((valid.numel(), *values.shape[1:])).index_copy(0, slots, values)
    values = values.reshape(valid.shape[0], valid.shape[1], *values.shape[1:])
    return values if slots is not None else values * valid.reshape(*valid.shape, *[1] * (values.ndim - 2))


def _roi_align(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    return roi_align(level.float(), rois, resolution, 1.0 / stride, SAMPLING_RATIO)


def roi_align_cpu(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    """RoIAlign (N, C, resolution, resolution) as weighted sums of a map's rows of channels.

    On a CPU this is several times faster than torchvision's operator, which gathers numbers one by one, and faster
    still in the backward pass.

    Args:
        level: (B, C, H, W) features.
        rois: (N, 5): row of the image in the batch, and the box in pixels of the canvas.
        stride: Pixels per cell.
        resolution: Cells per side.
    """
    channels, height, width = level.shape[1:]
    corners = rois[:, 1:] * (1.0 / stride)
    (x, weights_x), (y, weights_y) = (
        _interpolate_axis(corners[:, axis], corners[:, axis + 2], resolution, size)
        for axis, size in ((0, width), (1, height))
    )
    rows = (rois[:, 0].long()[:, None, None] * height + y) * width
    places = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weights = weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :] / SAMPLING_RATIO**2
    table = level.float().permute(0, 2, 3, 1).reshape(-1, channels)
    count = (2 * SAMPLING_RATIO) ** 2
    sums = F.embedding_bag(places.reshape(-1, count), table, per_sample_weights=weights.reshape(-1, count), mode="sum")
    return sums.reshape(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


def _interpolate_axis(start: Tensor, stop: Tensor, resolution: int, size: int) -> tuple[Tensor, Tensor]:
    """The two cells on either side of each sampling point along one axis, and their weights.

    Returns:
        (N, resolution, 2 * SAMPLING_RATIO) int64 and float32; points outside the map, by a cell or more, weigh 0.
    """
    step = (stop - start).clamp(min=1.0) / resolution
    cells = torch.arange(resolution, device=start.device)[:, None]
    offsets = (torch.arange(SAMPLING_RATIO, device=start.device) + 0.5) / SAMPLING_RATIO
    point = start[:, None, None] + (cells + offsets) * step[:, None, None]
    is_inside = (point >= -1.0) & (point <= size)
    point = point.clamp(0, size - 1)
    low = point.long().clamp(max=max(0, size - 2))
    fraction = point - low
    pair = torch.stack([low, (low + 1).clamp(max=size - 1)], -1)
    return pair.flatten(2), (torch.stack([1 - fraction, fraction], -1) * is_inside[..., None]).flatten(2)
