"""What YOLOX is trained on: SimOTA assignment, then IoU, objectness, classification and L1 losses.

Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430, section 2; Ge et al., OTA: Optimal Transport
Assignment for Object Detection, CVPR 2021. Equal to the losses of Megvii's implementation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ["assign", "decode_boxes", "encode_boxes", "iou_loss", "match_simota", "yolox_losses"]

Tensors = dict[str, Tensor]

CENTER_RADIUS = 1.5
"""A ground truth may take anchor points that are less than this many strides from its center, in x and in y."""
MAX_ANCHORS = 10
"""Most anchor points that a ground truth takes."""
IOU_COST = 3.0
"""Weight of the overlap in the cost of a match, relative to the classification."""
OUTSIDE_COST = 1e6
"""Cost of an anchor point outside the center region: taken only if there is no other."""


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., 4) xyxy in pixels from deltas (..., 4) at anchors (..., 3) of x, y and stride.

    Args:
        deltas: Center relative to the top-left corner of the cell, logarithm of width and height; all in strides.
        anchors: Center of the cell and stride, in pixels.
    """
    strides = anchors[..., 2:]
    center = anchors[..., :2] + (deltas[..., :2] - 0.5) * strides
    half = deltas[..., 2:].exp() * strides / 2
    return torch.cat([center - half, center + half], -1)


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas (..., 4) of boxes (..., 4) at anchors (..., 3); inverse of `decode_boxes`, finite for empty boxes."""
    strides = anchors[..., 2:]
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([(center - anchors[..., :2]) / strides + 0.5, (size / strides + 1e-8).log()], -1)


def yolox_losses(outputs: Tensors, targets: Tensors, use_l1: bool) -> Tensors:
    """Unweighted losses of a batch, each per positive anchor point.

    Args:
        outputs: "logits" (B, A, C), "objectness" (B, A, 1), "box_deltas" (B, A, 4), "anchors" (A, 3).
        targets: "boxes" (B, N, 4) xyxy in pixels, "labels" (B, N), "valid" (B, N) bool, "crowd" (B, N) bool. Anchor
            points inside crowd regions count neither as objects nor as background.
        use_l1: Add the L1 loss of the box deltas.

    Returns:
        "box" (1 - IoU^2), "objectness", "class" (binary cross-entropies; the class target is the IoU) and, if asked
        for, "l1": scalars, finite also without any ground truth.
    """
    logits, objectness, deltas = (outputs[name].float() for name in ("logits", "objectness", "box_deltas"))
    boxes = decode_boxes(deltas, outputs["anchors"])
    matched, overlap = assign(logits, objectness, boxes, outputs["anchors"], targets)
    positive = matched >= 0
    num_positive = positive.sum().clamp(min=1)
    image, anchor = positive.nonzero(as_tuple=True)
    target_boxes = targets["boxes"][image, matched[image, anchor]]
    target_labels = targets["labels"][image, matched[image, anchor]]
    class_target = F.one_hot(target_labels, logits.shape[2]) * overlap[image, anchor, None]
    is_counted = positive | ~_is_in_crowd(outputs["anchors"], targets)
    objectness_loss = F.binary_cross_entropy_with_logits(objectness[..., 0], positive.float(), reduction="none")
    losses = {
        "box": iou_loss(boxes[image, anchor], target_boxes).sum() / num_positive,
        "objectness": (objectness_loss * is_counted).sum() / num_positive,
        "class": F.binary_cross_entropy_with_logits(logits[image, anchor], class_target, reduction="sum")
        / num_positive,
    }
    if use_l1:
        target_deltas = encode_boxes(target_boxes, outputs["anchors"][anchor])
        losses["l1"] = F.l1_loss(deltas[image, anchor], target_deltas, reduction="sum") / num_positive
    return losses


def iou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - IoU^2 of boxes (P, 4) with targets (P, 4): (P,)."""
    common = (torch.minimum(boxes[:, 2:], targets[:, 2:]) - torch.maximum(boxes[:, :2], targets[:, :2])).clamp(min=0)
    intersection = common.prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (targets[:, 2:] - targets[:, :2]).prod(1)
    return 1 - (intersection / (areas - intersection + 1e-16)).square()


@torch.no_grad()
def assign(
    logits: Tensor, objectness: Tensor, boxes: Tensor, anchors: Tensor, targets: Tensors
) -> tuple[Tensor, Tensor]:
    """SimOTA of a batch: which ground truth each anchor point is trained on.

    Args:
        logits: (B, A, C).
        objectness: (B, A, 1) logits.
        boxes: (B, A, 4) predicted boxes.
        anchors: (A, 3) of x, y and stride.
        targets: As for `yolox_losses`.

    Returns:
        (B, A) int64 index into the N ground truths, -1 for background; (B, A) IoU with that ground truth, else 0.
    """
    matched = torch.full(logits.shape[:2], -1, device=logits.device)
    overlap = torch.zeros(logits.shape[:2], device=logits.device)
    is_single = targets["valid"] & ~targets["crowd"]
    for i, rows in enumerate(is_single):
        indices = rows.nonzero()[:, 0]
        ground_truth = targets["boxes"][i, indices].float()
        is_near = _is_near_center(anchors, ground_truth)
        candidates = is_near.any(0).nonzero()[:, 0]
        if not len(candidates):
            continue
        scores = (logits[i, candidates].sigmoid() * objectness[i, candidates].sigmoid()).sqrt()
        ious = box_iou(ground_truth, boxes[i, candidates]).nan_to_num(0)
        labels = targets["labels"][i, indices]
        owner, iou = match_simota(scores, ious, labels, is_near[:, candidates])
        taken = owner >= 0
        matched[i, candidates[taken]] = indices[owner[taken]]
        overlap[i, candidates[taken]] = iou[taken]
    return matched, overlap


def match_simota(scores: Tensor, ious: Tensor, labels: Tensor, is_near: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA of one image: each ground truth takes the cheapest of its candidates, as many as its IoUs sum up to.

    Args:
        scores: (A, C) predicted scores in [0, 1] of the candidates.
        ious: (N, A) of the ground truths with the predicted boxes.
        labels: (N,) classes of the ground truths, N at least 1.
        is_near: (N, A) bool, whether the candidate lies in the center region of the ground truth.

    Returns:
        (A,) int64 index of the ground truth that a candidate is matched to, or -1; (A,) IoU with it, or 0.
    """
    # Sum over classes of the binary cross-entropy against one-hot labels, without its (N, A, C) tensor.
    log_score, log_rest = scores.log().clamp(min=-100), (1 - scores).log().clamp(min=-100)
    class_cost = (log_rest - log_score)[:, labels].T - log_rest.sum(1)
    cost = class_cost - IOU_COST * (ious + 1e-8).log() + OUTSIDE_COST * ~is_near
    most = min(MAX_ANCHORS, ious.shape[1])
    counts = ious.topk(most).values.sum(1).int().clamp(min=1)
    is_taken = torch.arange(most, device=cost.device) < counts[:, None]
    chosen = torch.zeros_like(is_near).scatter(1, cost.topk(most, largest=False).indices, is_taken)
    takers = chosen.sum(0)
    owner = torch.where(takers > 1, cost.argmin(0), chosen.int().argmax(0))
    is_matched = takers > 0
    iou = ious.gather(0, owner[None])[0]
    return owner.masked_fill(~is_matched, -1), iou.masked_fill(~is_matched, 0)


def _is_near_center(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Whether anchors (A, 3) lie in the center regions of boxes (N, 4): (N, A) bool."""
    centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return ((anchors[:, :2] - centers).abs() < CENTER_RADIUS * anchors[:, 2:]).all(-1)


def _is_in_crowd(anchors: Tensor, targets: Tensors) -> Tensor:
    """Whether anchors (A, 3) lie inside crowd regions: (B, A) bool."""
    boxes = targets["boxes"][:, :, None]
    inside = (anchors[:, :2] > boxes[..., :2]).all(-1) & (anchors[:, :2] < boxes[..., 2:]).all(-1)
    return (inside & (targets["valid"] & targets["crowd"])[..., None]).any(1)
