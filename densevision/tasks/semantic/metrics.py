"""Metrics of semantic segmentation: from one confusion matrix, and from class boundaries. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.metrics.confusion import (
    BOUNDARY_PROTOCOL,
    BoundaryOverlap,
    Confusion,
    compute_overlap_metrics,
    nan_mean,
)
from densevision.metrics.metric import Tables
from densevision.metrics.metric_info import MetricInfo
from densevision.metrics.per_image import Columns, ImageSums, ratio
from densevision.results import SemanticMap

__all__ = ["METRIC_INFO", "MultilabelMetric", "SemanticMetric"]

METRIC_INFO = {
    "mIoU": MetricInfo("mean over classes of intersection over union"),
    "mAcc": MetricInfo("mean over classes of the share of correct pixels"),
    "aAcc": MetricInfo("share of correct pixels"),
    "fwIoU": MetricInfo("IoU, classes weighted by their pixels"),
    "mDice": MetricInfo("mean over classes of Dice"),
    "boundaryIoU": MetricInfo("mean IoU within 2 % of the diagonal of boundaries"),
    "IoU": MetricInfo("intersection over union"),
}
"""Metric -> what it measures."""

CLASS_COUNTS = ("hits", "truths", "predictions", "boundary_intersection", "boundary_union")
"""Counts of pixels per class and image from which the metrics follow."""


class SemanticMetric:
    """mIoU, mAcc, aAcc, fwIoU, mDice and boundaryIoU over all pixels of all images; mergeable.

    Args:
        names: Class names.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.confusion = Confusion(len(names))
        self.boundaries = BoundaryOverlap(len(names))
        self.images: dict[str, dict[str, np.ndarray]] = {}

    @property
    def protocol(self) -> dict[str, Any]:
        """How the metrics are computed."""
        return {
            "pixels": "of all images together; unknown pixels are ignored",
            "mean": "over the classes that occur in ground truth or predictions",
            "boundary": BOUNDARY_PROTOCOL,
        }

    def update(self, prediction: SemanticMap, truth: SemanticMap, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image.

        Raises:
            DataError: Their sizes differ.
        """
        if prediction.labels.shape != truth.labels.shape:
            problem = f"the prediction's size differs from that of the ground truth, {truth.size}"
            raise DataError(problem, file=str(image_id), value=prediction.size, hint="Predict at the image's size.")
        confusion, boundaries = Confusion(len(self.names)), BoundaryOverlap(len(self.names))
        confusion.update(prediction.labels, truth.labels)
        boundaries.update(prediction.labels, truth.labels)
        self.confusion.merge(confusion)
        self.boundaries.merge(boundaries)
        counts = (
            confusion.matrix.diagonal().copy(),
            confusion.true_pixels,
            confusion.predictions,
            boundaries.intersection,
            boundaries.union,
        )
        self.images[str(image_id)] = dict(zip(CLASS_COUNTS, counts))

    def merge(self, other: SemanticMetric) -> None:
        """Adds the images of another accumulator."""
        self.confusion.merge(other.confusion)
        self.boundaries.merge(other.boundaries)
        self.images |= other.images

    def per_image(self) -> ImageSums:
        """The counts of each image, from which the metrics of any subset of images follow."""
        blank = np.zeros(len(self.names), np.int64)
        return ImageSums(self.images, dict.fromkeys(CLASS_COUNTS, blank), _compute_metrics)

    def counts(self) -> dict[str, int]:
        """Pixels, images and classes that the metrics are based on."""
        absent = int(np.isnan(self.confusion.iou()).sum())
        return {
            "pixels": int(self.confusion.true_pixels.sum()),
            "unknown pixels": self.confusion.unknown,
            "images without a known pixel": sum(not row["truths"].any() for row in self.images.values()),
            "classes": len(self.names) - absent,
            "absent classes": absent,
        }

    def compute(self) -> dict[str, float]:
        """The headline metrics; NaN where no pixel defines them."""
        return {**self.confusion.compute(), "boundaryIoU": float(nan_mean(self.boundaries.iou()))}

    def tables(self) -> Tables:
        """IoU, Dice, accuracy, precision, boundary IoU and pixels of each class."""
        columns = {
            "IoU": self.confusion.iou(),
            "Dice": self.confusion.dice(),
            "accuracy": self.confusion.accuracy(),
            "precision": self.confusion.precision(),
            "boundaryIoU": self.boundaries.iou(),
            "pixels": self.confusion.true_pixels.astype(float),
        }
        rows = {
            name: {title: float(column[index]) for title, column in columns.items()}
            for index, name in enumerate(self.names)
        }
        return {"per class": rows}

    def draw_plots(self, folder: Path) -> None:
        """Draws the confusion matrix."""
        from densevision.draw.plots import plot_confusion_matrix

        plot_confusion_matrix(folder / "confusion.png", self.confusion.matrix, self.names)


class MultilabelMetric:
    """The same metrics where a pixel may have several classes: each class is evaluated as present or absent.

    aAcc is the share of correct decisions over all classes and pixels, fwIoU weighs the classes by their pixels.

    Args:
        names: Class names.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.class_metrics = [SemanticMetric(("absent", name)) for name in names]

    @property
    def protocol(self) -> dict[str, Any]:
        """How the metrics are computed."""
        return {**SemanticMetric(()).protocol, "classes": "each by itself, as present or absent"}

    def update(self, prediction: SemanticMap, truth: SemanticMap, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image."""
        for index, metric in enumerate(self.class_metrics):
            metric.update(_select_class(prediction, index), _select_class(truth, index), image_id)

    def merge(self, other: MultilabelMetric) -> None:
        """Adds the images of another accumulator."""
        for metric, other_metric in zip(self.class_metrics, other.class_metrics):
            metric.merge(other_metric)

    def per_image(self) -> ImageSums:
        """The counts of each image, from which the metrics of any subset of images follow."""
        blank = np.zeros(len(self.names), np.int64)
        image_ids = self.class_metrics[0].images if self.names else ()
        rows = {image_id: self._count_image(image_id) for image_id in image_ids}
        return ImageSums(
            rows, {**dict.fromkeys(CLASS_COUNTS, blank), "correct": 0, "decisions": 0}, _compute_multilabel_metrics
        )

    def _count_image(self, image_id: str) -> dict[str, Any]:
        rows = [metric.images[image_id] for metric in self.class_metrics]
        columns = {name: np.array([row[name][1] for row in rows]) for name in CLASS_COUNTS}
        decisions = sum(int(row["truths"].sum()) for row in rows)
        return {**columns, "correct": sum(int(row["hits"].sum()) for row in rows), "decisions": decisions}

    def counts(self) -> dict[str, int]:
        """Pixels, images and classes that the metrics are based on."""
        absent = int(np.isnan([metric.confusion.iou()[1] for metric in self.class_metrics]).sum())
        return {**self.class_metrics[0].counts(), "classes": len(self.names) - absent, "absent classes": absent}

    def compute(self) -> dict[str, float]:
        """The headline metrics; NaN where no pixel defines them."""
        return self.per_image().compute()

    def tables(self) -> Tables:
        """The same columns for each class."""
        rows = {name: metric.tables()["per class"][name] for name, metric in zip(self.names, self.class_metrics)}
        return {"per class": rows}

    def draw_plots(self, folder: Path) -> None:
        """Draws nothing: classes are not confused with each other."""


def _compute_metrics(sums: Columns) -> Columns:
    metrics = compute_overlap_metrics(sums["hits"], sums["truths"], sums["predictions"])
    return {**metrics, "boundaryIoU": nan_mean(ratio(sums["boundary_intersection"], sums["boundary_union"]))}


def _compute_multilabel_metrics(sums: Columns) -> Columns:
    return {**_compute_metrics(sums), "aAcc": ratio(sums["correct"], sums["decisions"])}


def _select_class(record: SemanticMap, index: int) -> SemanticMap:
    """One class of a multilabel map, as present (1), absent (0) or unknown (255)."""
    labels = np.where(record.known, record.mask(index), 255).astype(np.uint8)
    return SemanticMap(labels=labels, names=("absent", record.names[index]), size=record.size)
