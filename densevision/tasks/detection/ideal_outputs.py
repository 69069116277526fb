"""The outputs of a perfect network: the inverse of decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from densevision.ops.boxes import anchor_points, boxes_to_distances, two_hot
from densevision.results import Detections
from densevision.tasks.detection.models.yolo import LOWEST, STRIDES

CERTAIN = 20.0
"""Logit of a score that is 1, and with the other sign 0, to eight digits."""


def encode(ground_truths: Sequence[Detections | None], classes: int, bins: int) -> dict[str, Tensor]:
    """Outputs from which `decode` reads these truths again.

    Each object speaks from one anchor point, the finest and nearest that can express it. Crowd regions are no objects,
    and stay silent. Of objects of one class that overlap by more than the suppression allows, decoding keeps one; an
    object that no free anchor point can express is left out.

    Args:
        truths: Truths on the network's canvas.
        classes: Number of classes.
        bins: Values that a distance is distributed over.

    Returns:
        What the head returns.
    """
    coarsest = max(STRIDES)
    sizes = [truth.size for truth in ground_truths if truth is not None] or [(1, 1)]
    rows, columns = (math.ceil(max(sides) / coarsest) for sides in zip(*sizes))
    cells = [(rows * coarsest // stride, columns * coarsest // stride) for stride in STRIDES]
    anchors = anchor_points([torch.empty(1, 1, *size) for size in cells], STRIDES)
    logits = torch.full((len(ground_truths), len(anchors), classes), -CERTAIN)
    distances = torch.zeros(len(ground_truths), len(anchors), 4, bins)
    for truth, own_logits, own_distances in zip(ground_truths, logits, distances):
        if truth is None:
            continue
        single = truth[~truth.crowd]
        boxes, labels = torch.from_numpy(single.boxes), torch.from_numpy(single.labels)
        for row, anchor in _speakers(boxes, anchors, bins):
            own_logits[anchor, labels[row]] = CERTAIN
            steps = boxes_to_distances(anchors[anchor, :2], boxes[row]) / anchors[anchor, 2]
            own_distances[anchor] = two_hot(steps, bins, LOWEST).log().clamp(min=-100)
    return {"logits": logits, "distances": distances.flatten(2), "anchors": anchors}


def _speakers(boxes: Tensor, anchors: Tensor, bins: int) -> list[tuple[int, int]]:
    """Pairs of a box and an anchor point of its own; the smallest boxes, which have the least choice, choose first."""
    free = torch.ones(len(anchors), dtype=torch.bool)
    pairs = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for row in areas.argsort().tolist():
        steps = boxes_to_distances(anchors[:, :2], boxes[row]) / anchors[:, 2:]
        able = free & (steps >= LOWEST).all(1) & (steps <= LOWEST + bins - 1).all(1)
        if not able.any():
            continue
        away = (anchors[:, :2] - (boxes[row, :2] + boxes[row, 2:]) / 2).norm(dim=1) + anchors[:, 2]
        anchor = int(away.where(able, torch.inf).argmin())
        free[anchor] = False
        pairs.append((row, anchor))
    return pairs
