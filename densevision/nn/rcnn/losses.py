"""Losses of the second stage's heads.

Source: Girshick, Fast R-CNN, ICCV 2015, eq. 1; He et al., Mask R-CNN, ICCV 2017, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from densevision.nn.rcnn.box_coder import BOX_CODER
from densevision.nn.rcnn.matcher import GroundTruth, Samples

__all__ = ["box_losses", "box_regression_loss", "keypoint_loss", "keypoint_targets", "mask_loss", "mask_targets"]

SMOOTH_L1_BETA = 1 / 9
"""Difference of deltas at which the regression loss changes from quadratic to linear."""


def box_regression_loss(deltas: Tensor, targets: Tensor) -> Tensor:
    """Sum of the smooth L1 loss of deltas (N, 4)."""
    return F.smooth_l1_loss(deltas, targets, beta=SMOOTH_L1_BETA, reduction="sum")


def box_losses(
    logits: Tensor, deltas: Tensor, samples: Samples, target_records: Sequence[GroundTruth]
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the classes, and regression loss of the objects' boxes; both per sampled proposal.

    Args:
        logits: (N, 1 + classes).
        deltas: (N, 1 + classes, 4).
        samples: The N proposals.
        target_records: One per image.
    """
    total, objects = max(1, len(samples.labels)), samples.objects()
    boxes = objects.gather([truth.boxes for truth in target_records])
    expected = BOX_CODER.encode(boxes, objects.rois[:, 1:])
    predicted = deltas[samples.labels > 0, objects.labels]
    entropy = F.cross_entropy(logits, samples.labels, reduction="sum")
    return entropy / total, box_regression_loss(predicted, expected) / total


def mask_loss(logits: Tensor, objects: Samples, target_records: Sequence[GroundTruth]) -> Tensor:
    """Mean binary cross-entropy of masks (N, R, R) over their boxes."""
    targets = mask_targets(objects, [truth.masks for truth in target_records], logits.shape[-1])
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / max(1, logits.numel())


def mask_targets(objects: Samples, masks: Sequence[Tensor], resolution: int) -> Tensor:
    """(N, resolution, resolution) part of every cell that the object covers.

    Args:
        objects: N samples.
        masks: (objects, H, W) bool on the canvas, for each image.
        resolution: Cells per side.
    """
    parts = []
    for image, image_masks in enumerate(masks):
        is_of_image = objects.rois[:, 0] == image
        rows = objects.matches[is_of_image, None].to(objects.rois.dtype)
        rois = torch.cat([rows, objects.rois[is_of_image, 1:]], 1)
        parts.append(roi_align(image_masks[:, None].to(rois.dtype), rois, resolution)[:, 0])
    return torch.cat(parts)


def keypoint_loss(logits: Tensor, objects: Samples, target_records: Sequence[GroundTruth]) -> Tensor:
    """Cross-entropy over the cells of heatmaps (N, K, R, R), mean over the labeled keypoints in their boxes."""
    points = objects.gather([truth.keypoints for truth in target_records])
    cells, is_counted = keypoint_targets(points, objects.rois[:, 1:], logits.shape[-1])
    entropy = F.cross_entropy(logits.flatten(2)[is_counted], cells[is_counted], reduction="sum")
    return entropy / is_counted.sum().clamp(min=1)


def keypoint_targets(points: Tensor, boxes: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The cell of each keypoint, and whether it counts.

    Args:
        points: (N, K, 3) x, y, visibility.
        boxes: (N, 4).
        resolution: Cells per side.

    Returns:
        (N, K) int64 row * resolution + column, and (N, K) bool.
    """
    corner, side = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    cell = ((points[..., :2] - corner) * (resolution / side)).floor().long()
    cell = torch.where(points[..., :2] == boxes[:, None, 2:], resolution - 1, cell)  # the border belongs to the last
    is_counted = ((cell >= 0) & (cell < resolution)).all(-1) & (points[..., 2] > 0)
    return (cell[..., 1] * resolution + cell[..., 0]) * is_counted, is_counted
