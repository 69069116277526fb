"""Which class is taken for which, and what is missed or made up: the confusion matrix of a detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.errors import UsageError
from densevision.metrics.coco_columns import Objects


class BoxConfusion:
    """Confusion of boxes over images that come one at a time; mergeable, and only counts are kept.

    Predictions of at least `score_threshold`, in falling order of score, each take the free truth with the highest IoU, if
    that is at least `iou`, whatever its class. So a confident prediction of the wrong class counts as a confusion, and
    a later one of the right class on the same object as a false alarm. A prediction left over that lies inside a crowd
    region of its own class counts nowhere, by COCO's rule, and a crowd region is never missed.

    Args:
        names: Class names, K of them.
        iou: Least IoU of a match.
        min_score: Least score of a prediction that counts.

    Attributes:
        matrix: (K + 1, K + 1) int64 counts; row the class of the truth, column that of the prediction, the last of each
            the background: its column holds what was missed, its row the false alarms.
    """

    def __init__(self, names: Sequence[str], iou: float = 0.5, score_threshold: float = 0.25):
        self.names, self.iou, self.score_threshold = tuple(names), iou, score_threshold
        self.matrix = np.zeros((len(self.names) + 1, len(self.names) + 1), np.int64)

    def update(self, answer: Objects, truth: Objects) -> None:
        """Takes the predictions and the truth of one image, either of which may be empty."""
        background = len(self.names)
        sure = np.flatnonzero(answer.scores >= self.score_threshold)
        sure = sure[np.argsort(-answer.scores[sure], kind="stable")]
        crowd = np.asarray(truth.crowd, bool)
        overlaps = _overlaps(answer.boxes[sure], truth.boxes, crowd)
        matched = _matches(overlaps[:, ~crowd], self.iou)

        true_labels, labels = np.asarray(truth.labels)[~crowd], np.asarray(answer.labels)[sure]
        left = matched < 0
        same = labels[:, None] == np.asarray(truth.labels)[crowd]
        excused = left & (same & (overlaps[:, crowd] >= self.iou)).any(axis=1)
        missed = np.setdiff1d(np.arange(len(true_labels)), matched)
        np.add.at(self.matrix, (true_labels[matched[~left]], labels[~left]), 1)
        np.add.at(self.matrix, (background, labels[left & ~excused]), 1)
        np.add.at(self.matrix, (true_labels[missed], background), 1)

    def merge(self, other: BoxConfusion) -> None:
        """Adds the counts that another process gathered."""
        if (self.names, self.iou, self.score_threshold) != (other.names, other.iou, other.score_threshold):
            raise UsageError("cannot merge confusions of other classes or thresholds", value=other.names)
        self.matrix += other.matrix


def _overlaps(boxes: np.ndarray, ground_truths: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(N, M) IoU of xyxy boxes; over the prediction's area alone where the truth is a crowd."""
    boxes, ground_truths = (
        np.asarray(boxes, np.float64).reshape(-1, 1, 4),
        np.asarray(ground_truths, np.float64).reshape(1, -1, 4),
    )
    shared = np.minimum(boxes[..., 2:], ground_truths[..., 2:]) - np.maximum(boxes[..., :2], ground_truths[..., :2])
    shared = shared.clip(0).prod(axis=-1)
    area, true_area = ((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (boxes, ground_truths))
    whole = np.where(crowd, area, area + true_area - shared)
    return shared / np.maximum(whole, np.finfo(np.float64).tiny)


def _matches(overlaps: np.ndarray, least: float) -> np.ndarray:
    """Index of the truth that each prediction takes, in the order given, or -1: (N,) from (N, M)."""
    free = overlaps.copy()
    matched = np.full(len(overlaps), -1)
    for row in np.flatnonzero((overlaps >= least).any(axis=1)):
        best = free[row].argmax()
        if free[row, best] >= least:
            matched[row] = best
            free[:, best] = -1
    return matched
