"""The confusion matrix of a detector, with background as an extra class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.errors import DataError, UsageError
from densevision.metrics.coco_columns import ObjectArrays

__all__ = ["MAX_PLOTTED_CLASSES", "BoxConfusion"]

MAX_TABLE_CLASSES = 8000
"""Most classes for which the whole matrix is built: half a gigabyte."""
MAX_PLOTTED_CLASSES = 300
"""Classes that a plot of the matrix has room for."""
MAX_PAIRS = 1 << 22
"""IoUs that are held in memory at a time."""


class BoxConfusion:
    """Confusion of boxes over images; mergeable, and only the cells that are not zero are stored.

    Predictions with at least `score_threshold`, by descending score, each take the free ground truth with the highest
    IoU, if that is at least `iou`, whatever its class. So a confident prediction of the wrong class counts as a
    confusion, and a later one of the right class on the same object as a false positive. An unmatched prediction inside
    a crowd region of its own class is ignored, as in COCO, and a crowd region is never missed.

    Args:
        names: Class names, K of them.
        iou: Minimum IoU of a match.
        score_threshold: Minimum score of a prediction.
    """

    def __init__(self, names: Sequence[str], iou: float = 0.5, score_threshold: float = 0.25):
        self.names, self.iou, self.score_threshold = tuple(names), iou, score_threshold
        self._cells, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)

    @property
    def matrix(self) -> np.ndarray:
        """(K + 1, K + 1) int64 counts.

        Rows are true classes, columns predicted ones, the last of each is the background: its column counts missed
        objects, its row false positives.

        Raises:
            DataError: There are more than `MAX_TABLE_CLASSES` classes.
        """
        side = len(self.names) + 1
        if side > MAX_TABLE_CLASSES + 1:
            problem = f"a confusion matrix holds at most {MAX_TABLE_CLASSES:,} classes"
            raise DataError(problem, value=len(self.names), hint="Merge classes, or evaluate a part of them.")
        table = np.zeros(side * side, np.int64)
        table[self._cells] = self._counts
        return table.reshape(side, side)

    def select_most_confused(self, limit: int = MAX_PLOTTED_CLASSES) -> tuple[np.ndarray, list[int]]:
        """The part of the matrix that a plot has room for.

        Args:
            limit: Maximum number of classes.

        Returns:
            (C, C) counts, and the C rows of the whole matrix: all of them, or the `limit` classes with the most counts
            outside the diagonal, in their order, with the background last.
        """
        side = len(self.names) + 1
        rows, columns = np.divmod(self._cells, side)
        selected = np.arange(side)
        if side > limit + 1:
            errors = np.where(rows != columns, self._counts, 0)
            weights = np.bincount(rows, errors, side) + np.bincount(columns, errors, side)
            selected = np.append(np.sort(np.argsort(-weights[:-1], kind="stable")[:limit]), side - 1)
        position = np.full(side, -1)
        position[selected] = np.arange(len(selected))
        inside = (position[rows] >= 0) & (position[columns] >= 0)
        table = np.zeros((len(selected), len(selected)), np.int64)
        table[position[rows[inside]], position[columns[inside]]] = self._counts[inside]
        return table, selected.tolist()

    def update(self, prediction: ObjectArrays, truth: ObjectArrays) -> None:
        """Adds the predictions and the ground truth of one image, either of which may be empty."""
        background = len(self.names)
        rows = np.flatnonzero(prediction.scores >= self.score_threshold)
        rows = rows[np.argsort(-prediction.scores[rows], kind="stable")]
        crowd = np.asarray(truth.crowd, bool)
        matches, in_crowd = self._match(prediction, truth, rows, crowd)
        true_labels, labels = np.asarray(truth.labels)[~crowd], np.asarray(prediction.labels)[rows]
        unmatched = matches < 0
        missed = true_labels[np.setdiff1d(np.arange(len(true_labels)), matches)]
        false_positives = labels[unmatched & ~in_crowd]
        true_classes = [true_labels[matches[~unmatched]], np.full(len(false_positives), background), missed]
        predicted_classes = [labels[~unmatched], false_positives, np.full(len(missed), background)]
        cells = np.concatenate(true_classes).astype(np.int64) * (background + 1) + np.concatenate(predicted_classes)
        self._add(cells, np.ones(len(cells), np.int64))

    def merge(self, other: BoxConfusion) -> None:
        """Adds the counts of another accumulator.

        Raises:
            UsageError: It has other classes or thresholds.
        """
        if (self.names, self.iou, self.score_threshold) != (other.names, other.iou, other.score_threshold):
            raise UsageError("cannot merge confusions of other classes or thresholds", value=other.names)
        self._add(other._cells, other._counts)

    def _add(self, cells: np.ndarray, counts: np.ndarray) -> None:
        cells, counts = np.concatenate([self._cells, cells]), np.concatenate([self._counts, counts])
        self._cells, inverse = np.unique(cells, return_inverse=True)
        self._counts = np.zeros(len(self._cells), np.int64)
        np.add.at(self._counts, inverse, counts)

    def _match(
        self, prediction: ObjectArrays, truth: ObjectArrays, rows: np.ndarray, crowd: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each of the rows, the ground truth that it takes, or -1, and whether it lies in a crowd of its class.

        Works in blocks, so that many objects in one image need no table of all pairs.
        """
        matches, in_crowd = np.full(len(rows), -1), np.zeros(len(rows), bool)
        free = np.ones(int((~crowd).sum()), bool)
        step = max(1, MAX_PAIRS // max(1, len(truth.boxes)))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            ious = _compute_ious(prediction.boxes[block], truth.boxes, crowd)
            same_class = np.asarray(prediction.labels)[block][:, None] == np.asarray(truth.labels)[crowd]
            matches[start : start + step] = _match_greedily(ious[:, ~crowd], self.iou, free)
            in_crowd[start : start + step] = (same_class & (ious[:, crowd] >= self.iou)).any(axis=1)
        return matches, in_crowd


def _compute_ious(boxes: np.ndarray, true_boxes: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(N, M) IoU of xyxy boxes; for crowd regions, intersection over the prediction's area."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    true_boxes = np.asarray(true_boxes, np.float64).reshape(1, -1, 4)
    sides = np.minimum(boxes[..., 2:], true_boxes[..., 2:]) - np.maximum(boxes[..., :2], true_boxes[..., :2])
    intersection = sides.clip(0).prod(axis=-1)
    area, true_area = ((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (boxes, true_boxes))
    union = np.where(crowd, area, area + true_area - intersection)
    return intersection / np.maximum(union, np.finfo(np.float64).tiny)


def _match_greedily(ious: np.ndarray, threshold: float, free: np.ndarray) -> np.ndarray:
    """Index of the ground truth that each prediction takes, in order, or -1: (N,) from (N, M).

    `free` (M,) says which ground truths are not taken yet, and is updated.
    """
    matches = np.full(len(ious), -1)
    for row in np.flatnonzero((ious >= threshold).any(axis=1)):
        candidates = np.where(free, ious[row], -1)
        best = candidates.argmax()
        if candidates[best] >= threshold:
            matches[row] = best
            free[best] = False
    return matches
