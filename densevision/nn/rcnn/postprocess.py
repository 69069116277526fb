"""The end of the second stage: the strongest boxes with their classes, as many as the rules allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densevision.errors import UsageError, did_you_mean
from densevision.nn.rcnn.box_coder import BOX_SCALES, clipped, decode, least_side
from densevision.nn.rcnn.nms import batched_nms, rows_of, strongest
from densevision.nn.rcnn.rpn import Proposals
from densevision.run_config import PredictOptions

LEAST_SIDE = 1e-2
"""Shorter side in pixels below which a box is nothing."""


class Rules(NamedTuple):
    """Which boxes are answers.

    Attributes:
        min_score: A box scores more than this.
        iou_threshold: Intersection over union above which the weaker of two boxes of a class is dropped.
        limit: Most boxes per image.
        candidates: Most boxes per image that enter the suppression.
        agnostic: Boxes of different classes suppress each other too.
        classes: The classes that are wanted; all when not given.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    limit: int = 100
    candidates: int = 1000
    class_agnostic: bool = False
    classes: tuple[int, ...] | None = None


def asked_for(options: PredictOptions, usual: Rules, names: Sequence[str]) -> Rules:
    """The rules that options of `predict` ask for; where they are silent, the usual ones.

    Args:
        options: `score_threshold`, `nms`, `max_detections`, `class_agnostic` and `classes` are supported.
        usual: What the config says.
        names: Class names.

    Raises:
        UsageError: A class that does not exist.
    """
    limit = options.max_detections or usual.limit
    return Rules(
        score_threshold=usual.score_threshold if options.score_threshold is None else options.score_threshold,
        iou_threshold=usual.iou_threshold if options.iou_threshold is None else options.iou_threshold,
        limit=limit,
        candidates=max(limit, usual.candidates),
        class_agnostic=options.class_agnostic,
        classes=None if options.classes is None else _labels(options.classes, names),
    )


class Detected(NamedTuple):
    """Boxes of a batch, strongest first.

    Attributes:
        boxes: (B, K, 4) xyxy in pixels of the canvas.
        scores: (B, K) in [0, 1].
        labels: (B, K) classes from 0.
        valid: (B, K) bool; the others only fill the tensor.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor


def detect(logits: Tensor, offsets: Tensor, proposals: Proposals, size: Tensor, rules: Rules) -> Detected:
    """Decodes what the box head says of every proposal.

    Args:
        logits: (B, K, 1 + classes), background first.
        offsets: (B, K, 1 + classes, 4).
        proposals: The K of every image.
        size: (B, 2) height and width of each image on its canvas.
        rules: How many, how strong, how far apart.
    """
    scores = logits.softmax(-1)[..., 1:]
    classes = scores.shape[-1]
    scores = torch.where(proposals.valid[..., None] & _wanted(classes, rules, scores), scores, 0.0)
    best, position = strongest(scores.flatten(1), rules.candidates)
    row, label = position // classes, position % classes
    moves = rows_of(offsets.flatten(1, 2), row * (classes + 1) + label + 1)
    boxes = clipped(decode(moves, rows_of(proposals.boxes, row), BOX_SCALES), size)
    valid = (best > rules.score_threshold) & (best > 0) & (least_side(boxes) >= LEAST_SIDE)
    kept = batched_nms(
        boxes, best, valid, rules.iou_threshold, torch.zeros_like(label) if rules.class_agnostic else label
    )
    best, order = strongest(torch.where(kept, best, -1.0), rules.limit)
    return Detected(rows_of(boxes, order), best.clamp(min=0), rows_of(label, order), best > 0)


def _wanted(classes: int, rules: Rules, like: Tensor) -> Tensor:
    asked = range(classes) if rules.classes is None else rules.classes
    return torch.tensor([label in asked for label in range(classes)], device=like.device)


def _labels(asked: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    for name in asked:
        if name not in names:
            raise UsageError("no such class", field="classes", value=name, hint=did_you_mean(name, names))
    return tuple(label for label, name in enumerate(names) if name in asked)
