"""Which anchor or proposal answers for which truth, and which of them are learned from.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densevision.ops.boxes import pairwise_iou

BACKGROUND, IGNORED = -1, -2
"""In the place of a row of the truth: no object, and neither object nor background."""
WITHIN = 0.5
"""A box of which this part lies in a crowd region is no background."""


class Truth(NamedTuple):
    """What is true of one image.

    Attributes:
        boxes: (N, 4) objects.
        labels: (N,) classes from 0.
        crowd: (M, 4) regions of many objects.
        known: Whether the rest of the image is background.
        masks: (N, H, W) bool on the canvas.
        keypoints: (N, K, 3) x, y and visibility.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    known: bool
    masks: Tensor | None = None
    keypoints: Tensor | None = None


def ground_truths_of(targets: dict[str, Tensor]) -> list[Truth]:
    """Unpacks targets that are padded to one number of objects.

    Args:
        targets: "boxes" (B, N, 4), "labels", "valid", "crowd" (B, N), "known" (B,), and perhaps "masks" (B, N, H, W),
            "keypoints" (B, N, K, 3).
    """
    ground_truths = []
    for row, known in enumerate(targets["known"].tolist()):
        crowd = targets["valid"][row] & targets["crowd"][row]
        single = targets["valid"][row] & ~targets["crowd"][row]
        more = {name: targets[name][row][single] for name in ("masks", "keypoints") if name in targets}
        boxes = targets["boxes"][row]
        ground_truths.append(Truth(boxes[single], targets["labels"][row][single], boxes[crowd], known, **more))
    return ground_truths


def match(boxes: Tensor, truth: Truth, positive: float, negative: float, forced: bool = False) -> Tensor:
    """The truth that each box overlaps most, if enough.

    Args:
        boxes: (A, 4).
        truth: Of their image.
        positive: Least overlap with an object.
        negative: Boxes of less overlap with all objects are background; those between are ignored.
        forced: An object's best boxes, equals included, are objects whatever their overlap; each stays with the object
            that it overlaps most itself.

    Returns:
        (A,) int64 rows of the truth, BACKGROUND, or IGNORED.
    """
    if not truth.known:
        return boxes.new_full((len(boxes),), IGNORED, dtype=torch.long)
    rows = boxes.new_full((len(boxes),), BACKGROUND, dtype=torch.long)
    if len(truth.boxes):
        overlaps = pairwise_iou(truth.boxes, boxes)
        best, nearest = overlaps.max(0)
        rows = torch.where(best >= positive, nearest, torch.where(best >= negative, IGNORED, rows))
        if forced:
            favourite = (overlaps == overlaps.amax(1, keepdim=True)).any(0)
            rows = torch.where(favourite, nearest, rows)
    if len(truth.crowd):
        rows = torch.where((rows == BACKGROUND) & _in_crowd(boxes, truth.crowd), IGNORED, rows)
    return rows


def sample(rows: Tensor, count: int, positive_part: float) -> tuple[Tensor, Tensor]:
    """A random choice of objects and background.

    Args:
        rows: (A,) of `match`.
        count: How many in all, as far as there are enough.
        positive_part: Largest part of objects; background fills up.

    Returns:
        Positions of objects and of background, each ascending.
    """
    objects, background = (rows >= 0).nonzero().flatten(), (rows == BACKGROUND).nonzero().flatten()
    wanted = min(len(objects), int(count * positive_part))
    chosen = torch.randperm(len(objects), device=rows.device)[:wanted]
    others = torch.randperm(len(background), device=rows.device)[: count - wanted]
    return objects[chosen].sort().values, background[others].sort().values


class Samples(NamedTuple):
    """Proposals of a batch that the second stage learns from.

    Attributes:
        rois: (N, 5): row of the image, and the box.
        labels: (N,) classes from 1; 0 is background.
        rows: (N,) row of the object in its image's truth; BACKGROUND for background.
    """

    rois: Tensor
    labels: Tensor
    rows: Tensor

    def objects(self) -> Samples:
        """Those that are objects."""
        keep = self.labels > 0
        return Samples(self.rois[keep], self.labels[keep], self.rows[keep])

    def gathered(self, values: Sequence[Tensor]) -> Tensor:
        """The value (N, ...) of each sample's object, from a tensor (objects, ...) for each image."""
        images = self.rois[:, 0].long()
        return torch.cat([own[self.rows[images == image]] for image, own in enumerate(values)])


def sample_proposals(
    boxes: Tensor, valid: Tensor, ground_truths: Sequence[Truth], overlap: float, count: int, positive_part: float
) -> Samples:
    """Chooses from each image's proposals, the true boxes among them.

    Args:
        boxes: (B, K, 4).
        valid: (B, K) bool.
        truths: One per image.
        overlap: With an object, from which a proposal is that object.
        count: Proposals per image.
        positive_part: Largest part of objects.
    """
    parts = []
    for image, truth in enumerate(ground_truths):
        own = torch.cat([boxes[image][valid[image]], truth.boxes.to(boxes.dtype)])
        rows = match(own, truth, overlap, overlap)
        chosen = torch.cat(sample(rows, count, positive_part)).sort().values
        rows = rows[chosen]
        labels = torch.zeros_like(rows)
        labels[rows >= 0] = truth.labels[rows[rows >= 0]] + 1
        parts.append((torch.cat([own.new_full((len(chosen), 1), image), own[chosen]], 1), labels, rows))
    return Samples(*(torch.cat(part) for part in zip(*parts)))


def _in_crowd(boxes: Tensor, crowd: Tensor) -> Tensor:
    low = torch.maximum(boxes[:, None, :2], crowd[:, :2])
    common = (torch.minimum(boxes[:, None, 2:], crowd[:, 2:]) - low).clamp(min=0).prod(-1)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return (common >= WITHIN * own[:, None]).any(1)
