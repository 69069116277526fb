"""Ground truth of set prediction: normalized boxes, objects first, and which query is assigned to which object."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Assignment", "BoxTargets", "box_targets", "overlap", "to_centers", "to_corners"]

EPSILON = 1e-9
"""Least area that is divided by, of a canvas of area 1: far below that of a pixel."""


class BoxTargets(NamedTuple):
    """Ground truth of a batch, padded to the image with the most objects.

    Attributes:
        boxes: (B, N, 4) float32, normalized cxcywh.
        labels: (B, N) int64.
        valid: (B, N) bool; the valid ones come first.
        crowd_boxes: (B, M, 4), normalized xyxy of crowd regions, 0 where there is none.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd_boxes: Tensor


class Assignment(NamedTuple):
    """Which query of which image is assigned to which of its objects: three (P,) int64."""

    image: Tensor
    query: Tensor
    target: Tensor


def box_targets(targets: dict[str, Tensor], size: Tensor) -> BoxTargets:
    """Targets of a detection batch, without padding between objects and with the crowd regions apart.

    Args:
        targets: "boxes" (B, N, 4) xyxy in pixels of the canvas, "labels" (B, N), "valid" (B, N) bool and, where known,
            "crowd" (B, N) bool.
        size: (B, 2), height and width of the canvas.
    """
    boxes = targets["boxes"].float() / size.float().flip(-1).repeat(1, 2)[:, None]
    valid = targets["valid"]
    crowd = targets["crowd"] & valid if "crowd" in targets else torch.zeros_like(valid)
    objects = valid & ~crowd
    centers, labels, is_object = _compact(to_centers(boxes), targets["labels"], objects)
    crowd_boxes, _, is_crowd = _compact(boxes, targets["labels"], crowd)
    return BoxTargets(centers, labels, is_object, crowd_boxes * is_crowd[..., None])


def _compact(boxes: Tensor, labels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moves the kept entries to the front, in their order, and cuts the rest off."""
    count = int(keep.sum(1).max()) if keep.numel() else 0
    order = (~keep).long().argsort(dim=1, stable=True)[:, :count]
    return boxes.gather(1, order[..., None].expand(-1, -1, 4)), labels.gather(1, order), keep.gather(1, order)


def to_corners(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) from cxcywh to xyxy; negative sides count as 0.

    >>> to_corners(torch.tensor([3.0, 2.0, 2.0, 4.0]))
    tensor([2., 0., 4., 4.])
    """
    center, side = boxes.chunk(2, -1)
    half = 0.5 * side.clamp(min=0)
    return torch.cat([center - half, center + half], -1)


def to_centers(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) from xyxy to cxcywh.

    >>> to_centers(torch.tensor([2.0, 0.0, 4.0, 4.0]))
    tensor([3., 2., 2., 4.])
    """
    left_top, right_bottom = boxes.chunk(2, -1)
    return torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1)


def overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and its generalization, of boxes that broadcast; finite for empty ones.

    Generalized IoU: Rezatofighi et al., CVPR 2019, equation 3.

    Args:
        boxes: (..., 4), xyxy.
        others: (..., 4), xyxy.

    Returns:
        IoU and GIoU, of the broadcast shape without the last axis.

    >>> overlap(torch.tensor([0.0, 0, 2, 2]), torch.tensor([0.0, 0, 2, 1]))
    (tensor(0.5000), tensor(0.5000))
    """
    sides = (torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])).clamp(
        min=0
    )
    intersection = _area(sides)
    union = _area(boxes[..., 2:] - boxes[..., :2]) + _area(others[..., 2:] - others[..., :2]) - intersection
    hull = _area(torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2]))
    iou = intersection / union.clamp(min=EPSILON)
    return iou, iou - (hull - union) / hull.clamp(min=EPSILON)


def _area(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]
