"""Which anchor points answer for which truth: task-aligned assignment.

Source: Feng et al., TOOD: Task-aligned One-stage Object Detection, ICCV 2021, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densevision.ops.boxes import inside, pairwise_iou

LEAST_OVERLAP = 0.01
"""Overlap granted to a hopeless prediction, so that a truth no prediction touches yet still pulls one towards it."""


class Assignment(NamedTuple):
    """What each anchor point should answer.

    Attributes:
        truth: (B, A) int64, row of the truth that the anchor point answers for; meaningless where quality is 0.
        quality: (B, A) in [0, 1], the score it should give; 0 for background.
        counted: (B, A, C) bool, False where the truth does not say whether there is an object: inside crowd regions of
            the class, and in images of which nothing is known.
    """

    truth: Tensor
    quality: Tensor
    counted: Tensor


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, anchors: Tensor, targets: dict[str, Tensor], topk: int, alpha: float, beta: float
) -> Assignment:
    """Gives each truth the anchor points inside it that score and localise it best.

    The alignment of an anchor point with a truth is score^alpha x IoU^beta. Each truth takes its `topk` best; an anchor
    point wanted by several goes to the one it overlaps most. The target score is the alignment, scaled per truth so
    that its best equals its largest IoU (TOOD, eq. 2 and 5).

    Args:
        scores: (B, A, C) predicted scores in [0, 1].
        boxes: (B, A, 4) predicted boxes.
        anchors: (A, 3) of x, y, stride.
        targets: Of `Detection.targets`: boxes (B, N, 4), labels, valid, crowd (B, N), known (B,).
        topk: Anchor points per truth.
        alpha: Weight of the score.
        beta: Weight of the overlap.
    """
    ground_truths, single = targets["boxes"], targets["valid"] & ~targets["crowd"]
    within = inside(anchors[:, :2], ground_truths)
    forced = _claims_of_the_tiny(anchors, ground_truths, within) & single[..., None]
    candidates = (within & single[..., None]) | forced
    overlaps = pairwise_iou(ground_truths, boxes).clamp(min=LEAST_OVERLAP) * candidates
    labels = targets["labels"][..., None].expand(-1, -1, scores.shape[1])
    alignment = scores.transpose(1, 2).gather(1, labels) ** alpha * overlaps**beta

    wanted = torch.zeros_like(candidates)
    best = alignment.topk(min(topk, scores.shape[1]), -1)
    wanted = wanted.scatter(-1, best.indices, best.values > 0) | forced
    owner = (overlaps * wanted + forced).argmax(1)
    owned = wanted & (owner[:, None] == torch.arange(ground_truths.shape[1], device=owner.device)[:, None])

    alignment, overlaps = alignment * owned, overlaps * owned
    tiny = torch.finfo(alignment.dtype).tiny
    quality = alignment / alignment.amax(-1, keepdim=True).clamp(min=tiny) * overlaps.amax(-1, keepdim=True)
    return Assignment(owner, quality.amax(1), _counted(targets, within, owned.any(1), scores.shape[2]))


def _claims_of_the_tiny(anchors: Tensor, ground_truths: Tensor, within: Tensor) -> Tensor:
    """(B, N, A) bool: a truth around at most one anchor point claims the nearest of the finest level before any other.

    Without this the smallest objects would have nobody to answer for them, or lose their only one to a larger one.
    """
    centers = (ground_truths[..., :2] + ground_truths[..., 2:]) / 2
    away = (centers[..., None, :] - anchors[:, :2]).norm(dim=-1) + anchors[:, 2]  # a finer point wins over a nearer one
    nearest = torch.zeros_like(within).scatter(-1, away.argmin(-1, keepdim=True), True)
    return nearest & (within.sum(-1, keepdim=True) <= 1)


def _counted(targets: dict[str, Tensor], within: Tensor, positive: Tensor, classes: int) -> Tensor:
    known = targets["known"][:, None, None]
    crowd = targets["valid"] & targets["crowd"]
    if not crowd.any():
        return known.expand(-1, within.shape[2], classes)
    of_class = torch.nn.functional.one_hot(targets["labels"], classes) * crowd[..., None]
    ignored = torch.einsum("bna,bnc->bac", within.float(), of_class.float()) > 0
    return known & (~ignored | positive[..., None])
