"""The end of the second stage: the strongest boxes with their classes that do not suppress each other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densevision.nn.detector import DetectionOptions
from densevision.nn.rcnn.box_coder import BOX_CODER, clip_boxes, compute_min_side
from densevision.nn.rcnn.rpn import Proposals
from densevision.ops.nms import batched_nms, gather_rows, top_k

__all__ = ["BoxDetections", "detect"]

MIN_SIDE = 1e-2
"""Shorter side in pixels below which a detection is dropped."""


class BoxDetections(NamedTuple):
    """Boxes of a batch, strongest first.

    Attributes:
        boxes: (B, K, 4) xyxy in pixels of the canvas.
        scores: (B, K) in [0, 1].
        labels: (B, K) classes from 0.
        valid: (B, K) bool, False for padding.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor


def detect(
    logits: Tensor, deltas: Tensor, proposals: Proposals, image_sizes: Tensor, options: DetectionOptions
) -> BoxDetections:
    """Decodes the box head's outputs.

    Args:
        logits: (B, K, 1 + classes), background first.
        deltas: (B, K, 1 + classes, 4).
        proposals: K per image.
        image_sizes: (B, 2) height and width of each image on its canvas.
        options: Thresholds.
    """
    scores = logits.softmax(-1)[..., 1:]
    num_classes = scores.shape[-1]
    mask = proposals.valid[..., None]
    if options.class_mask is not None:
        mask = mask & torch.as_tensor(options.class_mask, dtype=torch.bool, device=mask.device)
    scores = torch.where(mask, scores, 0.0)
    best, position = top_k(scores.flatten(1), max(options.max_candidates, options.max_detections))
    row, label = position // num_classes, position % num_classes
    class_deltas = gather_rows(deltas.flatten(1, 2), row * (num_classes + 1) + label + 1)
    boxes = clip_boxes(BOX_CODER.decode(class_deltas, gather_rows(proposals.boxes, row)), image_sizes)
    valid = (best > options.score_threshold) & (best > 0) & (compute_min_side(boxes) >= MIN_SIDE)
    groups = None if options.class_agnostic else label
    keep = batched_nms(boxes, valid, options.iou_threshold, groups, 1 if options.class_agnostic else num_classes)
    best, order = top_k(torch.where(keep, best, -1.0), options.max_detections)
    return BoxDetections(gather_rows(boxes, order), best.clamp(min=0), gather_rows(label, order), best > 0)
