"""Boxes as tensors: anchor points, distances to the four sides, and distributions of distances.

Boxes are xyxy in pixels; (0, 0) is the top-left corner of the top-left pixel. Functions broadcast over leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "anchor_points",
    "boxes_to_distances",
    "distances_to_boxes",
    "expectation",
    "inside",
    "join_levels",
    "pairwise_iou",
    "two_hot",
]


def anchor_points(levels: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """The center of every cell of every level.

    Args:
        levels: Feature maps (B, C, H, W); only their sizes are read, so that an exported graph follows them.
        strides: Pixels per cell, one per level.

    Returns:
        (A, 3) of x, y and stride in pixels, level by level, row by row.

    >>> anchor_points([torch.zeros(1, 1, 1, 2)], [8])
    tensor([[ 4.,  4.,  8.],
            [12.,  4.,  8.]])
    """
    rows = []
    for level, stride in zip(levels, strides):
        y = (torch.arange(level.shape[2], device=level.device) + 0.5) * stride
        x = (torch.arange(level.shape[3], device=level.device) + 0.5) * stride
        y, x = torch.meshgrid(y, x, indexing="ij")
        rows.append(torch.stack([x, y, torch.full_like(x, stride)], -1).flatten(0, 1))
    return torch.cat(rows)


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, H, W) of all levels to (B, A, C), in the order of `anchor_points`.

    Maps in channels_last are copied as they lie in memory.
    """
    return torch.cat([each.flatten(2).mT for each in maps], 1)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes (..., 4) from points (..., 2) and the distances (..., 4) to the left, top, right and bottom side.

    >>> distances_to_boxes(torch.tensor([10.0, 10.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([ 9.,  8., 13., 14.])
    """
    left_top, right_bottom = distances.chunk(2, -1)
    return torch.cat([points - left_top, points + right_bottom], -1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) from points (..., 2) to the sides of boxes (..., 4); negative if a point is outside.

    >>> boxes_to_distances(torch.tensor([10.0, 10.0]), torch.tensor([9.0, 8.0, 13.0, 14.0]))
    tensor([1., 2., 3., 4.])
    """
    left_top, right_bottom = boxes.chunk(2, -1)
    return torch.cat([points - left_top, right_bottom - points], -1)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (A, 2) lie in boxes (..., N, 4): (..., N, A) bool.

    >>> inside(torch.tensor([[1.0, 1.0], [5.0, 1.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    tensor([[ True, False]])
    """
    return boxes_to_distances(points, boxes[..., None, :]).amin(-1) > 0


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., N, 4) with others (..., M, 4): (..., N, M); 0 if both are empty.

    `torchvision.ops.box_iou` with leading axes, which its older releases lack.

    >>> pairwise_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1], [1, 1, 3, 3]]))
    tensor([[0.5000, 0.1429]])
    """
    left, top, right, bottom = boxes.mT.contiguous()[..., :, None].unbind(-3)
    left2, top2, right2, bottom2 = others.mT.contiguous()[..., None, :].unbind(-3)
    # In place: memory traffic dominates, so each (N, M) temporary is touched once.
    width = torch.minimum(right, right2).sub_(torch.maximum(left, left2)).clamp_(min=0)
    intersection = torch.minimum(bottom, bottom2).sub_(torch.maximum(top, top2)).clamp_(min=0).mul_(width)
    areas, areas2 = (right - left) * (bottom - top), (right2 - left2) * (bottom2 - top2)
    union = (areas + areas2).sub_(intersection).clamp_(min=torch.finfo(boxes.dtype).tiny)
    return intersection.div_(union)


def expectation(logits: Tensor, lowest: float = 0.0) -> Tensor:
    """Mean of distributions over the equally spaced values lowest, lowest + 1, ...: (..., bins) to (...).

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 5.

    >>> expectation(torch.tensor([[0.0, 0.0, -99.0]]))
    tensor([0.5000])
    """
    values = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype) + lowest
    return (logits.softmax(-1) * values).sum(-1)


def two_hot(values: Tensor, bins: int, lowest: float = 0.0) -> Tensor:
    """Distributions (..., bins) over the two bins around each value (...); their mean is the clamped value.

    >>> two_hot(torch.tensor([1.25]), 4)
    tensor([[0.0000, 0.7500, 0.2500, 0.0000]])
    """
    position = (values - lowest).clamp(0, bins - 1)
    left = position.floor().clamp(max=bins - 2)
    right_share = (position - left)[..., None]
    left = left.long()
    return F.one_hot(left, bins) * (1 - right_share) + F.one_hot(left + 1, bins) * right_share
