"""Which class is taken for which, pixel by pixel, and every number that follows from it. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from densevision.metrics.per_image import ratio

UNKNOWN = 255
BAND = 0.02
"""Width of a boundary's band, as a part of the image's diagonal."""


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
        """Counts an image: (H, W) indices each, 255 unknown."""
        classes = len(self.matrix)
        table = _pairs(truth, answer)
        self.matrix += table[:classes, :classes]
        self.unanswered += table[:classes, classes:].sum(1)
        self.unknown += int(table[UNKNOWN].sum())

    def merge(self, other: Confusion) -> None:
        """Takes what another process counted."""
        self.matrix += other.matrix
        self.unanswered += other.unanswered
        self.unknown += other.unknown

    @property
    def ground_truths(self) -> np.ndarray:
        """(C,) pixels of each class."""
        return self.matrix.sum(1) + self.unanswered

    @property
    def answers(self) -> np.ndarray:
        """(C,) pixels that are taken for each class."""
        return self.matrix.sum(0)

    def iou(self) -> np.ndarray:
        """(C,) intersection over union; NaN where a class is neither there nor answered."""
        hits = self.matrix.diagonal()
        return ratio(hits, self.ground_truths + self.answers - hits)

    def dice(self) -> np.ndarray:
        """(C,) twice the intersection over the sum of both areas."""
        return ratio(2 * self.matrix.diagonal(), self.ground_truths + self.answers)

    def accuracy(self) -> np.ndarray:
        """(C,) part of each class's pixels that are answered right."""
        return ratio(self.matrix.diagonal(), self.ground_truths)

    def precision(self) -> np.ndarray:
        """(C,) part of the pixels taken for a class that are of it."""
        return ratio(self.matrix.diagonal(), self.answers)

    def compute(self) -> dict[str, float]:
        """mIoU mAcc aAcc fwIoU mDice in [0, 1]; means over the classes for which they are defined."""
        numbers = overlaps(self.matrix.diagonal(), self.ground_truths, self.answers)
        return {name: float(value) for name, value in numbers.items()}


def overlaps(hits: np.ndarray, ground_truths: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """mIoU mAcc aAcc fwIoU mDice from counts of pixels, (..., C) each: name -> (...).

    Args:
        hits: Pixels of each class that are answered right.
        truths: Pixels of each class.
        answers: Pixels taken for each class.
    """
    iou, total = ratio(hits, ground_truths + answers - hits), ground_truths.sum(-1)
    return {
        "mIoU": mean(iou),
        "mAcc": mean(ratio(hits, ground_truths)),
        "aAcc": ratio(hits.sum(-1), total),
        "fwIoU": np.where(total > 0, np.nansum(ratio(ground_truths, total[..., None]) * iou, -1), np.nan),
        "mDice": mean(ratio(2 * hits, ground_truths + answers)),
    }


class BoundaryOverlap:
    """Intersection and union of what lies near the borders of each class.

    Source: Cheng et al., Boundary IoU, CVPR 2021, eq. 2, with a band of 2 % of the diagonal; here per class over all
    images. Borders with unknown pixels are none, for it is not known where the class ends.
    """

    def __init__(self, classes: int):
        self.common = np.zeros(classes, np.int64)
        self.either = np.zeros(classes, np.int64)

    def update(self, answer: np.ndarray, truth: np.ndarray) -> None:
        """Counts an image: (H, W) indices each, 255 unknown."""
        classes = len(self.common)
        truth, answer = (np.ascontiguousarray(labels, np.uint8) for labels in (truth, answer))
        width = max(1, round(BAND * float(np.hypot(*truth.shape))))
        answer = np.where(truth == UNKNOWN, truth, answer)  # unknown where the truth is
        near_truth, near_answer = (border_band(labels, width) for labels in (truth, answer))
        common = _counted(truth, near_truth & near_answer & (truth == answer))[:classes]
        single = _counted(truth, near_truth)[:classes] + _counted(answer, near_answer)[:classes]
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
    """(H, W) bool: known pixels within `width` rows and columns of another class or of the image's rim.

    Args:
        labels: (H, W) integers, 255 unknown.
        width: In pixels.
    """
    labels = np.asarray(labels, np.uint8)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    # Unknown is 255, the largest number, and 0 when 1 is added to bytes, the smallest: it never decides.
    smallest = cv2.erode(labels, square) + np.uint8(1)
    near = cv2.dilate(labels + np.uint8(1), square) != smallest
    near[:width] = near[-width:] = True
    near[:, :width] = near[:, -width:] = True
    return near & (labels != UNKNOWN)


def _pairs(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """(256, 256) int64: pixels by label of the truth and label of the answer, (H, W) uint8 each."""
    found = np.zeros((256, 256), np.int64)
    for rows in _strips(truth.shape):
        planes = [np.ascontiguousarray(side[rows], np.uint8) for side in (truth, answer)]
        found += cv2.calcHist(planes, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return found


def _counted(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(256,) int64: pixels of a mask (H, W) bool by their label, (H, W) uint8."""
    found = np.zeros(256, np.int64)
    for rows in _strips(labels.shape):
        plane, kept = np.ascontiguousarray(labels[rows], np.uint8), np.ascontiguousarray(mask[rows]).view(np.uint8)
        found += cv2.calcHist([plane], [0], kept, [256], [0, 256]).ravel().astype(np.int64)
    return found


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of at most 2^24 pixels: so far OpenCV's counts in float32 are exact."""
    step = max(1, (1 << 24) // max(shape[1], 1))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis of the values that are defined; NaN where none is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))
