"""Greedy suppression over a batch: torchvision's where it can run, tensor arithmetic in an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms as torchvision_batched_nms
from torchvision.ops import nms as torchvision_nms

from densevision.ops.boxes import nms_dense


def batched_nms(boxes: Tensor, scores: Tensor, valid: Tensor, threshold: float, groups: Tensor | None = None) -> Tensor:
    """Which boxes no stronger one of their group suppresses.

    Args:
        boxes: (B, K, 4), strongest first.
        scores: (B, K).
        valid: (B, K) bool, the boxes that take part.
        threshold: Intersection over union above which the weaker box goes.
        groups: (B, K) integers; boxes of different groups leave each other alone. One group when not given.

    Returns:
        (B, K) bool.
    """
    if torch.compiler.is_exporting():
        return nms_dense(boxes, valid, threshold, groups)
    keep = torch.zeros_like(valid)
    for image, part in enumerate(valid):
        rows = part.nonzero().flatten()
        own_boxes, own_scores = boxes[image, rows], scores[image, rows]
        if groups is None:
            kept = torchvision_nms(own_boxes, own_scores, threshold)
        else:
            kept = torchvision_batched_nms(own_boxes, own_scores, groups[image, rows], threshold)
        keep[image, rows[kept]] = True
    return keep


def strongest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of scores (B, N), strongest first, and their positions: (B, count) each.

    Where there are fewer, minus infinity at the last position fills the rest, so that the form never depends on N.
    """
    padded = torch.cat([scores, scores.new_full((scores.shape[0], count), -torch.inf)], 1)
    best = padded.topk(count)
    return best.values, best.indices.clamp(max=scores.shape[1] - 1)


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """Picks rows (B, K) of values (B, N, ...): (B, K, ...)."""
    shape = (*rows.shape, *values.shape[2:])
    return values.gather(1, rows.reshape(*rows.shape, *[1] * (values.ndim - 2)).expand(shape))
