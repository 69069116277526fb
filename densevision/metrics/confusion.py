"""Pixel confusion matrix, boundary overlap, and the metrics of semantic segmentation that follow from them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from densevision.errors import DataError
from densevision.metrics.per_image import ratio

__all__ = [
    "BOUNDARY_PROTOCOL",
    "BOUNDARY_WIDTH",
    "UNKNOWN",
    "BoundaryOverlap",
    "Confusion",
    "compute_overlap_metrics",
    "find_boundary_band",
    "nan_mean",
]

UNKNOWN = 255
BOUNDARY_WIDTH = 0.02
"""Width of the boundary band as a share of the image's diagonal."""
BOUNDARY_PROTOCOL = (
    f"bands within {BOUNDARY_WIDTH:.0%} of the diagonal; unknown pixels are part of every class while bands are drawn, "
    "and left out of them"
)


class Confusion:
    """A confusion matrix over pixels.

    Attributes:
        matrix: (C, C) int64: rows are ground truth, columns predictions.
        unknown: Number of pixels without ground truth; they count nowhere else.
        unpredicted: (C,) known pixels without a prediction, by their true class; each counts as a miss.
    """

    def __init__(self, classes: int):
        if classes > UNKNOWN:
            hint = "Labels are bytes, and 255 means unknown: merge classes."
            raise DataError(f"pixels have at most {UNKNOWN} classes", field="classes", value=classes, hint=hint)
        self.matrix = np.zeros((classes, classes), np.int64)
        self.unpredicted = np.zeros(classes, np.int64)
        self.unknown = 0

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Counts an image: (H, W) class indices each, 255 unknown."""
        classes = len(self.matrix)
        table = _count_pairs(truth, prediction)
        self.matrix += table[:classes, :classes]
        self.unpredicted += table[:classes, classes:].sum(1)
        self.unknown += int(table[UNKNOWN].sum())

    def merge(self, other: Confusion) -> None:
        """Adds the counts of another accumulator."""
        self.matrix += other.matrix
        self.unpredicted += other.unpredicted
        self.unknown += other.unknown

    @property
    def true_pixels(self) -> np.ndarray:
        """(C,) pixels of each class in the ground truth."""
        return self.matrix.sum(1) + self.unpredicted

    @property
    def predictions(self) -> np.ndarray:
        """(C,) pixels predicted as each class."""
        return self.matrix.sum(0)

    def iou(self) -> np.ndarray:
        """(C,) intersection over union; NaN for classes neither in the ground truth nor predicted."""
        hits = self.matrix.diagonal()
        return ratio(hits, self.true_pixels + self.predictions - hits)

    def dice(self) -> np.ndarray:
        """(C,) twice the intersection over the sum of both areas."""
        return ratio(2 * self.matrix.diagonal(), self.true_pixels + self.predictions)

    def accuracy(self) -> np.ndarray:
        """(C,) share of each class's pixels that are predicted correctly (recall)."""
        return ratio(self.matrix.diagonal(), self.true_pixels)

    def precision(self) -> np.ndarray:
        """(C,) share of the pixels predicted as a class that belong to it."""
        return ratio(self.matrix.diagonal(), self.predictions)

    def compute(self) -> dict[str, float]:
        """mIoU mAcc aAcc fwIoU mDice in [0, 1]; means over the classes for which they are defined."""
        metrics = compute_overlap_metrics(self.matrix.diagonal(), self.true_pixels, self.predictions)
        return {name: float(value) for name, value in metrics.items()}


def compute_overlap_metrics(
    hits: np.ndarray, true_pixels: np.ndarray, predictions: np.ndarray
) -> dict[str, np.ndarray]:
    """mIoU mAcc aAcc fwIoU mDice from counts of pixels, (..., C) each: name -> (...).

    Args:
        hits: Correctly predicted pixels of each class.
        true_pixels: Pixels of each class.
        predictions: Pixels predicted as each class.
    """
    iou, total = ratio(hits, true_pixels + predictions - hits), true_pixels.sum(-1)
    return {
        "mIoU": nan_mean(iou),
        "mAcc": nan_mean(ratio(hits, true_pixels)),
        "aAcc": ratio(hits.sum(-1), total),
        "fwIoU": np.where(total > 0, np.nansum(ratio(true_pixels, total[..., None]) * iou, -1), np.nan),
        "mDice": nan_mean(ratio(2 * hits, true_pixels + predictions)),
    }


class BoundaryOverlap:
    """Intersection and union of the boundary bands of each class.

    Source: Cheng et al., Boundary IoU, CVPR 2021, eq. 2, with a band of 2 % of the diagonal; here per class over all
    images. Pixels without ground truth are removed from both maps, and no boundary is drawn between a class and such
    pixels, because it is unknown where the class ends.
    """

    def __init__(self, classes: int):
        self.intersection = np.zeros(classes, np.int64)
        self.union = np.zeros(classes, np.int64)

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Counts an image: (H, W) class indices each, 255 unknown."""
        classes = len(self.intersection)
        truth, prediction = (np.ascontiguousarray(labels, np.uint8) for labels in (truth, prediction))
        width = max(1, round(BOUNDARY_WIDTH * float(np.hypot(*truth.shape))))
        prediction = np.where(truth == UNKNOWN, truth, prediction)
        truth_band, predicted_band = (find_boundary_band(labels, width) for labels in (truth, prediction))
        intersection = _count_labels(truth, truth_band & predicted_band & (truth == prediction))[:classes]
        total = _count_labels(truth, truth_band)[:classes] + _count_labels(prediction, predicted_band)[:classes]
        self.intersection += intersection
        self.union += total - intersection

    def merge(self, other: BoundaryOverlap) -> None:
        """Adds the counts of another accumulator."""
        self.intersection += other.intersection
        self.union += other.union

    def iou(self) -> np.ndarray:
        """(C,) boundary IoU; NaN for classes without a boundary in ground truth and prediction."""
        return ratio(self.intersection, self.union)


def find_boundary_band(labels: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: known pixels within `width` rows and columns of another class or of the image's border.

    Args:
        labels: (H, W) class indices, 255 unknown.
        width: In pixels.
    """
    labels = np.asarray(labels, np.uint8)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    # Unknown is 255, the largest byte, for the minimum, and wraps to 0, the smallest, for the maximum: it is ignored.
    smallest = cv2.erode(labels, square) + np.uint8(1)
    band = cv2.dilate(labels + np.uint8(1), square) != smallest
    band[:width] = band[-width:] = True
    band[:, :width] = band[:, -width:] = True
    return band & (labels != UNKNOWN)


def _count_pairs(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(256, 256) int64: pixels by true and by predicted label, from (H, W) uint8 each."""
    counts = np.zeros((256, 256), np.int64)
    for rows in _iterate_strips(truth.shape):
        planes = [np.ascontiguousarray(labels[rows], np.uint8) for labels in (truth, prediction)]
        counts += cv2.calcHist(planes, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return counts


def _count_labels(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(256,) int64: pixels of a mask (H, W) bool by their label, (H, W) uint8."""
    counts = np.zeros(256, np.int64)
    for rows in _iterate_strips(labels.shape):
        plane, selection = np.ascontiguousarray(labels[rows], np.uint8), np.ascontiguousarray(mask[rows]).view(np.uint8)
        counts += cv2.calcHist([plane], [0], selection, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _iterate_strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows with at most 2^24 pixels, up to which OpenCV's float32 counts are exact."""
    step = max(1, (1 << 24) // max(shape[1], 1))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis without NaN; NaN where all values are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(-1), defined.sum(-1))
