"""Which class is taken for which, pixel by pixel, and every number that follows from it. No torch here."""

from __future__ import annotations

import cv2
import numpy as np

from densevision.metrics.pictures import ratio

UNKNOWN = 255
BAND = 0.02
"""Width of a boundary's band, as a part of the picture's diagonal."""


class Confusion:
    """A confusion matrix over pixels.

    Attributes:
        matrix: (C, C) int64: rows are the truth, columns the answer.
        unknown: Pixels whose truth is unknown; they count nowhere else.
        unanswered: Known pixels that the answer says nothing of, (C,) by their true class: each is a miss.
    """

    def __init__(self, classes: int):
        self.matrix = np.zeros((classes, classes), np.int64)
        self.unanswered = np.zeros(classes, np.int64)
        self.unknown = 0

    def update(self, answer: np.ndarray, truth: np.ndarray) -> None:
        """Counts a picture: (H, W) indices each, 255 unknown."""
        classes = len(self.matrix)
        known = truth != UNKNOWN
        told = truth[known].astype(np.int64)
        said = np.minimum(answer[known], classes).astype(np.int64)
        table = np.bincount(told * (classes + 1) + said, minlength=classes * (classes + 1)).reshape(classes, -1)
        self.matrix += table[:, :classes]
        self.unanswered += table[:, classes]
        self.unknown += int(known.size - told.size)

    def merge(self, other: Confusion) -> None:
        """Takes what another process counted."""
        self.matrix += other.matrix
        self.unanswered += other.unanswered
        self.unknown += other.unknown

    @property
    def truths(self) -> np.ndarray:
        """(C,) pixels of each class."""
        return self.matrix.sum(1) + self.unanswered

    @property
    def answers(self) -> np.ndarray:
        """(C,) pixels that are taken for each class."""
        return self.matrix.sum(0)

    def iou(self) -> np.ndarray:
        """(C,) intersection over union; NaN where a class is neither there nor answered."""
        hits = self.matrix.diagonal()
        return ratio(hits, self.truths + self.answers - hits)

    def dice(self) -> np.ndarray:
        """(C,) twice the intersection over the sum of both areas."""
        return ratio(2 * self.matrix.diagonal(), self.truths + self.answers)

    def accuracy(self) -> np.ndarray:
        """(C,) part of each class's pixels that are answered right."""
        return ratio(self.matrix.diagonal(), self.truths)

    def precision(self) -> np.ndarray:
        """(C,) part of the pixels taken for a class that are of it."""
        return ratio(self.matrix.diagonal(), self.answers)

    def compute(self) -> dict[str, float]:
        """mIoU mAcc aAcc fwIoU mDice in [0, 1]; means over the classes for which they are defined."""
        numbers = overlaps(self.matrix.diagonal(), self.truths, self.answers)
        return {name: float(value) for name, value in numbers.items()}


def overlaps(hits: np.ndarray, truths: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """mIoU mAcc aAcc fwIoU mDice from counts of pixels, (..., C) each: name -> (...).

    Args:
        hits: Pixels of each class that are answered right.
        truths: Pixels of each class.
        answers: Pixels taken for each class.
    """
    iou, total = ratio(hits, truths + answers - hits), truths.sum(-1)
    return {
        "mIoU": mean(iou),
        "mAcc": mean(ratio(hits, truths)),
        "aAcc": ratio(hits.sum(-1), total),
        "fwIoU": np.where(total > 0, np.nansum(ratio(truths, total[..., None]) * iou, -1), np.nan),
        "mDice": mean(ratio(2 * hits, truths + answers)),
    }


class BoundaryOverlap:
    """Intersection and union of what lies near the borders of each class.

    Source: Cheng et al., Boundary IoU, CVPR 2021, eq. 2, with a band of 2 % of the diagonal; here per class over all
    pictures. Borders with unknown pixels are none, for it is not known where the class ends.
    """

    def __init__(self, classes: int):
        self.common = np.zeros(classes, np.int64)
        self.either = np.zeros(classes, np.int64)

    def update(self, answer: np.ndarray, truth: np.ndarray) -> None:
        """Counts a picture: (H, W) indices each, 255 unknown."""
        classes = len(self.common)
        width = max(1, round(BAND * float(np.hypot(*truth.shape))))
        known = truth != UNKNOWN
        answer = np.where(known, answer, UNKNOWN)
        near_truth, near_answer = (border_band(labels, width) for labels in (truth, answer))
        both = near_truth & near_answer & (truth == answer)
        common = np.bincount(truth[both], minlength=classes)[:classes]
        single = sum(
            np.bincount(labels[near], minlength=256)[:classes]
            for labels, near in ((truth, near_truth), (answer, near_answer))
        )
        self.common += common
        self.either += single - common

    def merge(self, other: BoundaryOverlap) -> None:
        """Takes what another process counted."""
        self.common += other.common
        self.either += other.either

    def iou(self) -> np.ndarray:
        """(C,) boundary IoU; NaN where a class has no border in truth or answer."""
        return ratio(self.common, self.either)


def border_band(labels: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: known pixels within `width` rows and columns of another class or of the picture's rim.

    Args:
        labels: (H, W) integers, 255 unknown.
        width: In pixels.
    """
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    known = labels != UNKNOWN
    rim = 256.0  # a class of its own outside the picture

    def spread(fill: int, method: int) -> np.ndarray:
        filled = np.where(known, labels.astype(np.int16), np.int16(fill))
        bordered = cv2.copyMakeBorder(filled, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=rim)
        return cv2.morphologyEx(bordered, method, square)[1:-1, 1:-1]

    return (spread(-1, cv2.MORPH_DILATE) != spread(1024, cv2.MORPH_ERODE)) & known


def mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis of the values that are defined; NaN where none is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))
