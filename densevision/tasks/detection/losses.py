"""What the detector is trained on: classification, overlap of boxes, distribution of distances."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

from densevision.ops.boxes import boxes_to_distances, two_hot
from densevision.tasks.detection.assigner import Assignment, assign
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models.yolo import LOWEST, predicted_boxes

Tensors = dict[str, Tensor]


def detection_losses(outputs: Tensors, targets: Tensors, config: DetectionConfig) -> Tensors:
    """Weighted losses of a batch, each per unit of target score.

    Args:
        outputs: Of the head.
        targets: Of `Detection.targets`.
        config: Gives the weights and the assigner's options.

    Returns:
        "class", "box" and "distribution": scalars, finite for any truth, also none.
    """
    logits, distances, anchors = outputs["logits"].float(), outputs["distances"].float(), outputs["anchors"]
    boxes = predicted_boxes(distances, anchors)
    options = config.assign
    assignment = assign(logits.sigmoid(), boxes, anchors, targets, options.topk, options.alpha, options.beta)
    total = assignment.quality.sum().clamp(min=1)
    positive = assignment.quality > 0
    weights = assignment.quality[positive]
    wanted = targets["boxes"].gather(1, assignment.truth[..., None].expand(-1, -1, 4))[positive]
    own = anchors.expand(len(boxes), -1, -1)[positive]
    steps = boxes_to_distances(own[:, :2], wanted) / own[:, 2:]
    scale = config.loss
    return {
        "class": scale.classification * class_loss(logits, targets["labels"], assignment).sum() / total,
        "box": scale.box * (complete_box_iou_loss(boxes[positive], wanted) * weights).sum() / total,
        "distribution": scale.distribution * (distribution_loss(distances[positive], steps) * weights).sum() / total,
    }


def class_loss(logits: Tensor, labels: Tensor, assignment: Assignment) -> Tensor:
    """Binary cross-entropy per anchor point and class against the target score, (B, A, C).

    Args:
        logits: (B, A, C).
        labels: (B, N) classes of the truths.
        assignment: Which anchor point answers for which truth, and how well it should score.
    """
    label = labels.gather(1, assignment.truth)
    wanted = torch.zeros_like(logits).scatter(2, label[..., None], assignment.quality[..., None].to(logits.dtype))
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * assignment.counted


def distribution_loss(logits: Tensor, steps: Tensor) -> Tensor:
    """Cross-entropy of the two bins beside each distance, mean over the four sides: (N,).

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 6.

    Args:
        logits: (N, 4 * bins).
        steps: (N, 4) true distances in strides.
    """
    logits = logits.unflatten(-1, (4, -1))
    wanted = two_hot(steps, logits.shape[-1], LOWEST)
    return -(wanted * logits.log_softmax(-1)).sum(-1).mean(-1)
