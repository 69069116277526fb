"""Features of boxes: every box reads from the level of the pyramid that suits its size.

Source: He et al., Mask R-CNN, ICCV 2017, section 3 (RoIAlign); Lin et al., Feature Pyramid Networks, CVPR 2017, eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
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
        rois: (N, 5): row of the picture in the batch, and the box in pixels of the canvas.
        resolution: Cells a side.
    """
    own = suitable_level(rois[:, 1:], strides)
    if torch.compiler.is_exporting():
        # A graph of fixed form reads every box from every level, and keeps what is wanted.
        pooled = (_aligned(level, rois, stride, resolution) for level, stride in zip(levels, strides))
        return sum(part * (own == i)[:, None, None, None] for i, part in enumerate(pooled))
    result = levels[0].new_zeros((len(rois), levels[0].shape[1], resolution, resolution), dtype=torch.float32)
    for i, (level, stride) in enumerate(zip(levels, strides)):
        rows = (own == i).nonzero().flatten()
        result = result.index_copy(0, rows, _aligned(level, rois[rows], stride, resolution))
    return result


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
    """(N, 5) picture and box of the slots, or of all, of boxes (B, K, 4)."""
    picture = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    picture = picture[:, None, None].expand(-1, boxes.shape[1], 1)
    rois = torch.cat([picture, boxes], 2).flatten(0, 1)
    return rois if slots is None else rois[slots]


def into_slots(values: Tensor, slots: Tensor | None, valid: Tensor) -> Tensor:
    """Values (N, ...) of the slots back in their places, zero elsewhere: (B, K, ...) for `valid` (B, K)."""
    if slots is not None:
        values = values.new_zeros((valid.numel(), *values.shape[1:])).index_copy(0, slots, values)
    values = values.reshape(valid.shape[0], valid.shape[1], *values.shape[1:])
    return values if slots is not None else values * valid.reshape(*valid.shape, *[1] * (values.ndim - 2))


def _aligned(level: Tensor, rois: Tensor, stride: int, resolution: int) -> Tensor:
    return roi_align(level.float(), rois, resolution, 1.0 / stride, SAMPLES)
