"""Features of boxes: every box reads from the level of the pyramid that suits its size.

Source: He et al., Mask R-CNN, ICCV 2017, section 3 (RoIAlign); Lin et al., Feature Pyramid Networks, CVPR 2017, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

USUAL_SIDE, USUAL_LEVEL = 224, 4
"""A box of this side reads from the level of stride 2^4."""
SAMPLES = 2
"""Points a side at which each cell of the result reads."""


def pool(levels: Sequence[Tensor], strides: Sequence[int], rois: Tensor, resolution: int) -> Tensor:
    """Features (N, C, resolution, resolution) of boxes.

    Args:
        levels: (B, C, H, W) features, shallow to deep.
        strides: Pixels per cell of each level.
        rois: (N, 5): row of the image in the batch, and the box in pixels of the canvas.
        resolution: Cells a side.
    """
    own = suitable_level(rois[:, 1:], strides)
    if torch.compiler.is_exporting():
        # A graph of fixed form reads every box from every level, and keeps what is wanted.
        pooled = (_aligned(level, rois, stride, resolution) for level, stride in zip(levels, strides))
        return sum(part * (own == i)[:, None, None, None] for i, part in enumerate(pooled))
    shape = (rois.shape[0], resolution, resolution, levels[0].shape[1])
    result = levels[0].new_zeros(shape, dtype=torch.float32)
    for i, (level, stride) in enumerate(zip(levels, strides)):
        rows = (own == i).nonzero().flatten()
        if rows.numel():
            result = result.index_copy(0, rows, _read(level, rois[rows], stride, resolution).permute(0, 2, 3, 1))
    return result.permute(0, 3, 1, 2)


def suitable_level(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """(N,) position of the level from which boxes (N, 4) read.

    >>> suitable_level(torch.tensor([[0.0, 0, 20, 20], [0, 0, 224, 224], [0, 0, 999, 999]]), [4, 8, 16, 32])
    tensor([0, 2, 3])
    """
    first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (USUAL_LEVEL + (side / USUAL_SIDE).log2() + 1e-6).floor()
    return level.clamp(first, last).long() - first


def occupied(valid: Tensor) -> Tensor | None:
    """(N,) positions of the slots (B, K) that hold something; None in an exported graph, which computes all."""
    return None if torch.compiler.is_exporting() else valid.flatten().nonzero().flatten()


def rois_of(boxes: Tensor, slots: Tensor | None) -> Tensor:
    """(N, 5) image and box of the slots, or of all, of boxes (B, K, 4)."""
    image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    image = image[:, None, None].expand(-1, boxes.shape[1], 1)
    rois = torch.cat([image, boxes], 2).flatten(0, 1)
    return rois if slots is None else rois[slots]


def into_slots(values: Tensor, slots: Tensor | None, valid: Tensor) -> Tensor:
    """Values (N, ...) of the slots back in their places, zero elsewhere: (B, K, ...) for `valid` (B, K)."""
    if slots is not None:
        values = values.new_zeros((valid.numel(), *values.shape[1:])).index_copy(0, slots, values)
    values = values.reshape(valid.shape[0], valid.shape[1], *values.shape[1:])
    return values if slots is not None else values * valid.reshape(*valid.shape, *[1] * (values.ndim - 2))


def _aligned(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    return roi_align(level.float(), rois, resolution, 1.0 / stride, SAMPLES)


def _read(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    return (summed if level.device.type == "cpu" else _aligned)(level, rois, stride, resolution)


def summed(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    """RoIAlign (N, C, resolution, resolution) as weighted sums of a map's rows of channels.

    A processor reads and adds whole rows several times faster than torchvision's operator gathers numbers one by one,
    and faster still on the way back.

    Args:
        level: (B, C, H, W) features.
        rois: (N, 5): row of the image in the batch, and the box in pixels of the canvas.
        stride: Pixels per cell.
        resolution: Cells a side.
    """
    channels, height, width = level.shape[1:]
    corners = rois[:, 1:] * (1.0 / stride)
    (x, across), (y, down) = (
        _neighbors(corners[:, axis], corners[:, axis + 2], resolution, size) for axis, size in ((0, width), (1, height))
    )
    rows = (rois[:, 0].long()[:, None, None] * height + y) * width
    places = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weights = down[:, :, None, :, None] * across[:, None, :, None, :] / SAMPLES**2
    table = level.float().permute(0, 2, 3, 1).reshape(-1, channels)
    count = (2 * SAMPLES) ** 2
    found = F.embedding_bag(places.reshape(-1, count), table, per_sample_weights=weights.reshape(-1, count), mode="sum")
    return found.reshape(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


def _neighbors(start: Tensor, stop: Tensor, resolution: int, size: int) -> tuple[Tensor, Tensor]:
    """The two cells on either side of each point at which a box is read along one axis, and their shares.

    Returns:
        (N, resolution, 2 * SAMPLES) int64 and float32; points outside the map, by a cell or more, have no share.
    """
    step = (stop - start).clamp(min=1.0) / resolution
    cells = torch.arange(resolution, device=start.device)[:, None]
    within = (torch.arange(SAMPLES, device=start.device) + 0.5) / SAMPLES
    point = start[:, None, None] + (cells + within) * step[:, None, None]
    there = (point >= -1.0) & (point <= size)
    point = point.clamp(0, size - 1)
    low = point.long().clamp(max=max(0, size - 2))
    share = point - low
    pair = torch.stack([low, (low + 1).clamp(max=size - 1)], -1)
    return pair.flatten(2), (torch.stack([1 - share, share], -1) * there[..., None]).flatten(2)
