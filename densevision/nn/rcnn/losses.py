"""What each stage is trained on.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, eq. 1; He et al., Mask R-CNN, ICCV 2017, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from densevision.nn.rcnn.box_coder import BOX_SCALES, PROPOSAL_SCALES, encode
from densevision.nn.rcnn.config import ProposalConfig
from densevision.nn.rcnn.matcher import Samples, Truth, match, sample

BEND = 1 / 9
"""Difference of offsets at which the box loss turns from a parabola into a line."""


def proposal_losses(
    logits: Tensor, offsets: Tensor, anchors: Tensor, ground_truths: Sequence[Truth], config: ProposalConfig
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a sample of anchors, and the error of their offsets; each per sampled anchor.

    Args:
        logits: (B, A).
        offsets: (B, A, 4).
        anchors: (A, 4).
        truths: One per image.
        config: How anchors are matched and sampled.
    """
    given, wanted, off, right = [], [], [], []
    for own_logits, own_offsets, truth in zip(logits, offsets, ground_truths):
        rows = match(anchors, truth, config.positive, config.negative, forced=True)
        objects, background = sample(rows, config.samples, config.positive_part)
        given += [own_logits[objects], own_logits[background]]
        wanted += [torch.ones_like(given[-2]), torch.zeros_like(given[-1])]
        off.append(own_offsets[objects])
        right.append(encode(truth.boxes[rows[objects]], anchors[objects], PROPOSAL_SCALES))
    total = max(1, sum(map(len, given)))
    entropy = F.binary_cross_entropy_with_logits(torch.cat(given), torch.cat(wanted), reduction="sum")
    return entropy / total, _offset_loss(torch.cat(off), torch.cat(right)) / total


def box_losses(
    logits: Tensor, offsets: Tensor, samples: Samples, ground_truths: Sequence[Truth]
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the classes, and the error of the objects' offsets; each per sampled proposal.

    Args:
        logits: (N, 1 + classes).
        offsets: (N, 1 + classes, 4).
        samples: What the N are.
        truths: One per image.
    """
    total, objects = max(1, len(samples.labels)), samples.objects()
    positive = samples.labels > 0
    wanted = encode(objects.gathered([truth.boxes for truth in ground_truths]), objects.rois[:, 1:], BOX_SCALES)
    given = offsets[positive, objects.labels]
    entropy = F.cross_entropy(logits, samples.labels, reduction="sum")
    return entropy / total, _offset_loss(given, wanted) / total


def mask_loss(logits: Tensor, objects: Samples, ground_truths: Sequence[Truth]) -> Tensor:
    """Binary cross-entropy per cell between masks (N, R, R) and what the truth's mask shows in each box."""
    targets = mask_targets(objects, [truth.masks for truth in ground_truths], logits.shape[-1])
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / max(1, logits.numel())


def mask_targets(objects: Samples, masks: Sequence[Tensor], resolution: int) -> Tensor:
    """(N, resolution, resolution) part of every cell that the object covers.

    Args:
        objects: N of them.
        masks: (objects, H, W) bool on the canvas, for each image.
        resolution: Cells a side.
    """
    parts = []
    for image, own in enumerate(masks):
        here = objects.rois[:, 0] == image
        rois = torch.cat([objects.rows[here, None].to(objects.rois.dtype), objects.rois[here, 1:]], 1)
        parts.append(roi_align(own[:, None].to(rois.dtype), rois, resolution)[:, 0])
    return torch.cat(parts)


def keypoint_loss(logits: Tensor, objects: Samples, ground_truths: Sequence[Truth]) -> Tensor:
    """Cross-entropy over the cells of heatmaps (N, K, R, R), mean over the keypoints labeled and in the box."""
    points = objects.gathered([truth.keypoints for truth in ground_truths])
    cells, counted = keypoint_targets(points, objects.rois[:, 1:], logits.shape[-1])
    entropy = F.cross_entropy(logits.flatten(2)[counted], cells[counted], reduction="sum")
    return entropy / counted.sum().clamp(min=1)


def keypoint_targets(points: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The cell of each keypoint, and whether it counts.

    Args:
        points: (N, K, 3) x, y, visibility.
        boxes: (N, 4).
        resolution: Cells a side.

    Returns:
        (N, K) int64 row * resolution + column, and (N, K) bool.
    """
    corner, side = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    cell = ((points[..., :2] - corner) * (resolution / side)).floor().long()
    cell = torch.where(points[..., :2] == boxes[:, None, 2:], resolution - 1, cell)  # the border belongs to the last
    counted = ((cell >= 0) & (cell < resolution)).all(-1) & (points[..., 2] > 0)
    return (cell[..., 1] * resolution + cell[..., 0]) * counted, counted


def _offset_loss(given: Tensor, wanted: Tensor) -> Tensor:
    return F.smooth_l1_loss(given, wanted, beta=BEND, reduction="sum")
