"""COCO's metrics of boxes, per class, and the confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.box_confusion import BoxConfusion
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.matches import Matches
from densevision.metrics.metric_info import COCO_INFO
from densevision.metrics.tracking_info import TRACKING_INFO
from densevision.results import Detections

__all__ = ["METRIC_INFO", "DetectionMetric"]

METRIC_INFO = COCO_INFO | TRACKING_INFO
"""Metric -> what it measures."""


class DetectionMetric:
    """COCO's twelve metrics with tables and plots; mergeable.

    Args:
        names: Class names.
        max_detections: Predictions of a class in an image that are evaluated, the best ones.
    """

    def __init__(self, names: Sequence[str], max_detections: int = MAX_DETECTIONS):
        self.max_detections = max_detections
        self.precision = AveragePrecision(names, max_detections=max_detections)
        self.confusion = BoxConfusion(names)

    @property
    def protocol(self) -> dict[str, Any]:
        """What must be known to compare the metrics with those of other tools."""
        return self.precision.protocol

    def update(self, prediction: Detections, truth: Detections, image_id: int | str) -> None:
        """Adds the boxes and the ground truth of one image."""
        self.precision.update(prediction, truth, image_id)
        self.confusion.update(prediction, truth)

    def merge(self, other: DetectionMetric) -> None:
        """Adds the images of another metric, e.g. of another process."""
        self.precision.merge(other.precision)
        self.confusion.merge(other.confusion)

    def counts(self) -> dict[str, int]:
        """Numbers of ground truths and predictions."""
        return self.precision.counts()

    def compute(self) -> dict[str, float]:
        """AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; NaN without ground truth."""
        return self.precision.compute()

    def per_image(self) -> Matches:
        """The matches of each image, from which the metrics of any subset of images follow."""
        return self.precision.per_image()

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The metrics of each class."""
        return {"per class": self.precision.per_class()}

    def draw_plots(self, folder: Path) -> None:
        """Precision over recall, F1 over confidence, and the confusion matrix."""
        from densevision.draw.plots import plot_confusion_matrix, plot_f1_curves, plot_pr_curves

        curves = self.precision.curves()
        confidences = np.linspace(0, 1, 101)
        names = self.precision.names
        plot_pr_curves(
            folder / "precision_recall.png", {n: (curves.recall, p) for n, p in zip(names, curves.precision)}
        )
        plot_f1_curves(folder / "f1.png", {n: (confidences, f) for n, f in zip(names, curves.f1(confidences))})
        matrix, rows = self.confusion.select_most_confused()
        plot_confusion_matrix(folder / "confusion.png", matrix, [(*names, "background")[row] for row in rows])
