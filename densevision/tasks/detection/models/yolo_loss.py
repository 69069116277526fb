"""Losses of YOLO: task-aligned assignment, then classification, complete IoU, and distribution focal loss.

Source: Feng et al., TOOD: Task-aligned One-stage Object Detection, ICCV 2021, section 3.2, for the assignment; Li et
al., Generalized Focal Loss, NeurIPS 2020, eq. 6, for the distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

from densevision.ops.boxes import (
    boxes_to_distances,
    distances_to_boxes,
    expectation,
    inside,
    pairwise_iou,
    two_hot,
)

__all__ = ["Assignment", "TaskAlignedAssigner", "class_loss", "decode_boxes", "dfl_loss", "yolo_losses"]

Tensors = dict[str, Tensor]

MIN_DISTANCE = -1.0
"""Lowest value of a distance distribution, in strides: a box smaller than a cell may lie beside its anchor point."""
MIN_IOU = 0.01
"""Smallest IoU in the alignment, so that a ground truth without any overlapping prediction still attracts one."""


class Assignment(NamedTuple):
    """What each anchor point is trained on.

    Attributes:
        matches: (B, A) int64, row of the ground truth of the anchor point; meaningless where quality is 0.
        quality: (B, A) in [0, 1], target score; 0 for background.
        is_counted: (B, A, C) bool, False where it is unknown whether there is an object: inside crowd regions of the
            class, and in unlabeled images.
    """

    matches: Tensor
    quality: Tensor
    is_counted: Tensor


class TaskAlignedAssigner:
    """Assigns each ground truth the anchor points inside it with the best combination of score and IoU.

    The alignment of an anchor point with a ground truth is score^alpha x IoU^beta. Each ground truth takes its `topk`
    best; an anchor point that several take goes to the one it overlaps most. The target score is the alignment, scaled
    per ground truth so that its largest value equals its largest IoU (TOOD, eq. 2 and 5).

    Args:
        topk: Anchor points per ground truth.
        alpha: Exponent of the score.
        beta: Exponent of the IoU.
    """

    def __init__(self, topk: int = 10, alpha: float = 0.5, beta: float = 6.0):
        self.topk, self.alpha, self.beta = topk, alpha, beta

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, anchors: Tensor, targets: Tensors) -> Assignment:
        """Assigns the anchor points of a batch.

        Args:
            scores: (B, A, C) predicted scores in [0, 1].
            boxes: (B, A, 4) predicted boxes.
            anchors: (A, 3) of x, y, stride.
            targets: "boxes" (B, N, 4), "labels", "valid", "crowd" (B, N), and optionally "known" (B,).
        """
        truth_boxes, is_single = targets["boxes"], targets["valid"] & ~targets["crowd"]
        is_inside = inside(anchors[:, :2], truth_boxes)
        is_reserved = _reserve_for_tiny(anchors, truth_boxes, is_inside) & is_single[..., None]
        is_candidate = (is_inside & is_single[..., None]) | is_reserved
        overlaps = pairwise_iou(truth_boxes, boxes).clamp(min=MIN_IOU) * is_candidate
        labels = targets["labels"][..., None].expand(-1, -1, scores.shape[1])
        alignment = scores.transpose(1, 2).gather(1, labels) ** self.alpha * overlaps**self.beta

        best = alignment.topk(min(self.topk, scores.shape[1]), -1)
        is_taken = torch.zeros_like(is_candidate).scatter(-1, best.indices, best.values > 0) | is_reserved
        owner = (overlaps * is_taken + is_reserved).argmax(1)
        rows = torch.arange(truth_boxes.shape[1], device=owner.device)[:, None]
        is_positive = is_taken & (owner[:, None] == rows)

        alignment, overlaps = alignment * is_positive, overlaps * is_positive
        tiny = torch.finfo(alignment.dtype).tiny
        quality = alignment / alignment.amax(-1, keepdim=True).clamp(min=tiny) * overlaps.amax(-1, keepdim=True)
        is_counted = _find_counted(targets, is_inside, is_positive.any(1), scores.shape[2])
        return Assignment(owner, quality.amax(1), is_counted)


def yolo_losses(outputs: Tensors, targets: Tensors, assigner: TaskAlignedAssigner) -> Tensors:
    """Losses of a batch, not weighted, each per unit of target score; finite without any ground truth.

    Args:
        outputs: "logits" (B, A, C), "distances" (B, A, 4 * reg_max), "anchors" (A, 3).
        targets: As for `TaskAlignedAssigner`.
        assigner: Assigns the anchor points.

    Returns:
        "class", "box" and "dfl".
    """
    logits, distances, anchors = outputs["logits"].float(), outputs["distances"].float(), outputs["anchors"]
    boxes = decode_boxes(distances, anchors)
    assignment = assigner(logits.sigmoid(), boxes, anchors, targets)
    total = assignment.quality.sum().clamp(min=1)
    positive = assignment.quality > 0
    weights = assignment.quality[positive]
    target_boxes = targets["boxes"].gather(1, assignment.matches[..., None].expand(-1, -1, 4))[positive]
    points = anchors.expand(len(boxes), -1, -1)[positive]
    steps = boxes_to_distances(points[:, :2], target_boxes) / points[:, 2:]
    return {
        "class": class_loss(logits, targets["labels"], assignment).sum() / total,
        "box": (complete_box_iou_loss(boxes[positive], target_boxes) * weights).sum() / total,
        "dfl": (dfl_loss(distances[positive], steps) * weights).sum() / total,
    }


def decode_boxes(distances: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., A, 4) from logits of distances (..., A, 4 * reg_max) at anchors (A, 3); no side is negative."""
    steps = expectation(distances.unflatten(-1, (4, -1)), MIN_DISTANCE)
    corners = distances_to_boxes(anchors[..., :2], steps * anchors[..., 2:])
    top_left, bottom_right = corners.chunk(2, -1)
    return torch.cat([top_left, torch.maximum(top_left + 1e-3, bottom_right)], -1)


def class_loss(logits: Tensor, labels: Tensor, assignment: Assignment) -> Tensor:
    """Binary cross-entropy per anchor point and class against the target score, (B, A, C).

    Args:
        logits: (B, A, C).
        labels: (B, N) classes of the ground truths.
        assignment: What each anchor point is trained on.
    """
    label = labels.gather(1, assignment.matches)
    target = torch.zeros_like(logits).scatter(2, label[..., None], assignment.quality[..., None].to(logits.dtype))
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * assignment.is_counted


def dfl_loss(logits: Tensor, steps: Tensor) -> Tensor:
    """Distribution focal loss: cross-entropy of the two bins around each distance, mean over the four sides, (N,).

    Args:
        logits: (N, 4 * reg_max).
        steps: (N, 4) true distances in strides.
    """
    logits = logits.unflatten(-1, (4, -1))
    target = two_hot(steps, logits.shape[-1], MIN_DISTANCE)
    return -(target * logits.log_softmax(-1)).sum(-1).mean(-1)


def _reserve_for_tiny(anchors: Tensor, truth_boxes: Tensor, is_inside: Tensor) -> Tensor:
    """(B, N, A) bool: the nearest point of the finest level, for ground truths with at most one anchor point inside.

    Without this the smallest objects would have no anchor point, or lose their only one to a larger object.
    """
    centers = (truth_boxes[..., :2] + truth_boxes[..., 2:]) / 2
    distance = (centers[..., None, :] - anchors[:, :2]).norm(dim=-1) + anchors[:, 2]  # prefers the finest level
    nearest = torch.zeros_like(is_inside).scatter(-1, distance.argmin(-1, keepdim=True), True)
    return nearest & (is_inside.sum(-1, keepdim=True) <= 1)


def _find_counted(targets: Tensors, is_inside: Tensor, positive: Tensor, num_classes: int) -> Tensor:
    batch, _, num_anchors = is_inside.shape
    known = targets["known"] if "known" in targets else positive.new_ones(batch)
    crowd = targets["valid"] & targets["crowd"]
    if not crowd.any():
        return known[:, None, None].expand(-1, num_anchors, num_classes)
    crowd_classes = F.one_hot(targets["labels"], num_classes) * crowd[..., None]
    is_ignored = torch.einsum("bna,bnc->bac", is_inside.float(), crowd_classes.float()) > 0
    return known[:, None, None] & (~is_ignored | positive[..., None])
