"""Matches anchors and proposals with ground truths, and samples those that are trained on.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densevision.ops.boxes import pairwise_iou

__all__ = ["GroundTruth", "Matcher", "ProposalSampler", "Samples", "sample_balanced", "unpack_targets"]

BACKGROUND, IGNORED = -1, -2
"""Instead of a row of the ground truth: no object; neither object nor background."""
CROWD_FRACTION = 0.5
"""A box of which this part lies in a crowd region is not background."""


class GroundTruth(NamedTuple):
    """The objects of one image.

    Attributes:
        boxes: (N, 4) objects.
        labels: (N,) classes from 0.
        crowd: (M, 4) crowd regions.
        is_labeled: Whether the rest of the image is background.
        masks: (N, H, W) bool on the canvas; empty without masks.
        keypoints: (N, K, 3) x, y and visibility; empty without keypoints.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    is_labeled: bool = True
    masks: Tensor = torch.empty(0)
    keypoints: Tensor = torch.empty(0)


def unpack_targets(targets: dict[str, Tensor]) -> list[GroundTruth]:
    """Unpacks targets that are padded to the same number of objects.

    Args:
        targets: "boxes" (B, N, 4), "labels", "valid", "crowd" (B, N), and optionally "known" (B,), False for unlabeled
            images, "masks" (B, N, H, W), "keypoints" (B, N, K, 3).
    """
    count = len(targets["boxes"])
    labeled = targets["known"].tolist() if "known" in targets else [True] * count
    target_records = []
    for row in range(count):
        boxes = targets["boxes"][row]
        crowd = targets["valid"][row] & targets["crowd"][row]
        single = targets["valid"][row] & ~targets["crowd"][row]
        details = {name: targets[name][row][single] for name in ("masks", "keypoints") if name in targets}
        labels = targets["labels"][row][single]
        target_records.append(GroundTruth(boxes[single], labels, boxes[crowd], labeled[row], **details))
    return target_records


class Matcher:
    """Matches each box with the ground truth that it overlaps most.

    Args:
        fg_iou_thresh: Lowest IoU of a match.
        bg_iou_thresh: Boxes whose IoU with all objects is below this are background; those in between are ignored.
        allow_low_quality_matches: The boxes that overlap an object most, including ties, match whatever their IoU; each
            is matched with the object that it overlaps most itself.
    """

    def __init__(self, fg_iou_thresh: float, bg_iou_thresh: float, allow_low_quality_matches: bool = False):
        self.fg_iou_thresh, self.bg_iou_thresh = fg_iou_thresh, bg_iou_thresh
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, boxes: Tensor, ground_truth: GroundTruth) -> Tensor:
        """Boxes (A, 4) to (A,) int64 rows of the ground truth, BACKGROUND or IGNORED."""
        if not ground_truth.is_labeled:
            return boxes.new_full((len(boxes),), IGNORED, dtype=torch.long)
        matches = boxes.new_full((len(boxes),), BACKGROUND, dtype=torch.long)
        if len(ground_truth.boxes):
            overlaps = pairwise_iou(ground_truth.boxes, boxes)
            best, nearest = overlaps.max(0)
            is_between = best >= self.bg_iou_thresh
            matches = torch.where(best >= self.fg_iou_thresh, nearest, torch.where(is_between, IGNORED, matches))
            if self.allow_low_quality_matches:
                is_best = (overlaps == overlaps.amax(1, keepdim=True)).any(0)
                matches = torch.where(is_best, nearest, matches)
        if len(ground_truth.crowd):
            is_crowd = (matches == BACKGROUND) & _is_in_crowd(boxes, ground_truth.crowd)
            matches = torch.where(is_crowd, IGNORED, matches)
        return matches


def sample_balanced(matches: Tensor, batch_size_per_image: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Draws a random sample of objects and background.

    Args:
        matches: (A,) of a `Matcher`.
        batch_size_per_image: Size of the sample, if there are enough.
        positive_fraction: Largest part of objects; background fills up.

    Returns:
        Positions of objects and of background, each ascending.
    """
    positive, negative = (matches >= 0).nonzero()[:, 0], (matches == BACKGROUND).nonzero()[:, 0]
    num_positive = min(len(positive), int(batch_size_per_image * positive_fraction))
    chosen_positive = torch.randperm(len(positive), device=matches.device)[:num_positive]
    chosen_negative = torch.randperm(len(negative), device=matches.device)[: batch_size_per_image - num_positive]
    return positive[chosen_positive].sort().values, negative[chosen_negative].sort().values


class Samples(NamedTuple):
    """Proposals of a batch that the second stage is trained on.

    Attributes:
        rois: (N, 5): row of the image, and the box.
        labels: (N,) classes from 1; 0 is background.
        matches: (N,) row of the object in its image's ground truth; BACKGROUND for background.
    """

    rois: Tensor
    labels: Tensor
    matches: Tensor

    def objects(self) -> Samples:
        """The samples that are objects."""
        keep = self.labels > 0
        return Samples(self.rois[keep], self.labels[keep], self.matches[keep])

    def gather(self, values: Sequence[Tensor]) -> Tensor:
        """The value (N, ...) of each sample's object, from a tensor (objects, ...) for each image."""
        images = self.rois[:, 0].long()
        return torch.cat([rows[self.matches[images == image]] for image, rows in enumerate(values)])


class ProposalSampler:
    """Samples the proposals that the second stage is trained on; the true boxes are among the candidates.

    Args:
        fg_iou_thresh: IoU with an object from which a proposal is that object, else it is background.
        batch_size_per_image: Proposals per image.
        positive_fraction: Largest part of objects.
    """

    def __init__(self, fg_iou_thresh: float, batch_size_per_image: int, positive_fraction: float):
        self.matcher = Matcher(fg_iou_thresh, fg_iou_thresh)
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction

    def __call__(self, boxes: Tensor, valid: Tensor, target_records: Sequence[GroundTruth]) -> Samples:
        """Samples from proposals (B, K, 4), `valid` (B, K) bool."""
        parts = []
        for image, truth in enumerate(target_records):
            candidates = torch.cat([boxes[image][valid[image]], truth.boxes.to(boxes.dtype)])
            matches = self.matcher(candidates, truth)
            drawn = sample_balanced(matches, self.batch_size_per_image, self.positive_fraction)
            rows = torch.cat(drawn).sort().values
            matches = matches[rows]
            labels = torch.zeros_like(matches)
            labels[matches >= 0] = truth.labels[matches[matches >= 0]] + 1
            rois = torch.cat([candidates.new_full((len(rows), 1), image), candidates[rows]], 1)
            parts.append((rois, labels, matches))
        return Samples(*(torch.cat(part) for part in zip(*parts)))


def _is_in_crowd(boxes: Tensor, crowd: Tensor) -> Tensor:
    top_left = torch.maximum(boxes[:, None, :2], crowd[:, :2])
    intersection = (torch.minimum(boxes[:, None, 2:], crowd[:, 2:]) - top_left).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return (intersection >= CROWD_FRACTION * area[:, None]).any(1)
