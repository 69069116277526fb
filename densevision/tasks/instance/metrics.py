"""COCO's metrics of boxes, masks, boundaries of masks, and keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.box_confusion import BoxConfusion
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.metric_info import COCO_INFO, MetricInfo
from densevision.metrics.per_image import JoinedStats
from densevision.results import Instances

__all__ = ["METRIC_INFO", "InstanceMetric"]

_KINDS = {"bbox": "boxes", "segm": "masks", "boundary": "masks and boundaries", "keypoints": "keypoints"}
_KEYPOINT_INFO = {
    "AP": MetricInfo("OKS 0.50 to 0.95, at most 20 predictions"),
    "AP50": MetricInfo("OKS 0.50, at most 20 predictions"),
    "AP75": MetricInfo("OKS 0.75, at most 20 predictions"),
    "AR": MetricInfo("recall, OKS 0.50 to 0.95"),
    "AR50": MetricInfo("recall at OKS 0.50"),
    "AR75": MetricInfo("recall at OKS 0.75"),
}
METRIC_INFO = {
    f"{kind}/{name}": MetricInfo(f"{title}: {info.text}")
    for kind, title in _KINDS.items()
    for name, info in (COCO_INFO | (_KEYPOINT_INFO if kind == "keypoints" else {})).items()
}
"""Metric -> what it measures."""


class InstanceMetric:
    """COCO's twelve metrics of each kind of geometry, under names such as segm/AP; mergeable.

    Args:
        names: Class names.
        kinds: What is evaluated: "bbox", and "segm", "boundary" or "keypoints".
        sigmas: Standard deviation of each keypoint in COCO's similarity.
        max_detections: Predictions of a class in an image that are evaluated, the best ones; keypoints have COCO's 20.
    """

    def __init__(
        self,
        names: Sequence[str],
        kinds: Sequence[str] = ("bbox", "segm"),
        sigmas: Sequence[float] = (),
        max_detections: int = MAX_DETECTIONS,
    ):
        self.max_detections = max_detections
        self.parts = {kind: AveragePrecision(names, kind, sigmas, max_detections) for kind in kinds}
        self.confusion = BoxConfusion(names)

    @property
    def protocol(self) -> dict[str, Any]:
        """What must be known to compare the metrics with those of other tools."""
        shared, *others = (part.protocol for part in self.parts.values())
        same = {key: value for key, value in shared.items() if all(other.get(key) == value for other in others)}
        differing = {
            kind: {key: value for key, value in part.protocol.items() if key not in same}
            for kind, part in self.parts.items()
        }
        return {**same, **differing}

    def update(self, prediction: Instances, truth: Instances, image_id: int | str) -> None:
        """Adds the objects and the ground truth of one image."""
        for part in self.parts.values():
            part.update(prediction, truth, image_id)
        self.confusion.update(prediction, truth)

    def merge(self, other: InstanceMetric) -> None:
        """Adds the images of another metric, e.g. of another process."""
        for kind, part in self.parts.items():
            part.merge(other.parts[kind])
        self.confusion.merge(other.confusion)

    def counts(self) -> dict[str, int]:
        """Numbers of ground truths and predictions."""
        return self.parts["bbox"].counts()

    def compute(self) -> dict[str, float]:
        """bbox/AP bbox/AP50 ... segm/AP ... keypoints/AP ...; NaN without ground truth."""
        return {f"{kind}/{name}": value for kind, part in self.parts.items() for name, value in part.compute().items()}

    def per_image(self) -> JoinedStats:
        """The matches of each image, from which the metrics of any subset of images follow."""
        return JoinedStats((f"{kind}/", part.per_image()) for kind, part in self.parts.items())

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The metrics of each class."""
        return {f"{kind} per class": part.per_class() for kind, part in self.parts.items()}

    def draw_plots(self, folder: Path) -> None:
        """Precision over recall and F1 over confidence for each kind, and the confusion matrix."""
        from densevision.draw.plots import plot_confusion_matrix, plot_f1_curves, plot_pr_curves

        confidences = np.linspace(0, 1, 101)
        for kind, part in self.parts.items():
            curves, names = part.curves(), part.names
            plot_pr_curves(
                folder / f"{kind}_precision_recall.png",
                {name: (curves.recall, values) for name, values in zip(names, curves.precision)},
            )
            plot_f1_curves(
                folder / f"{kind}_f1.png",
                {name: (confidences, values) for name, values in zip(names, curves.f1(confidences))},
            )
        names = self.parts["bbox"].names
        matrix, rows = self.confusion.select_most_confused()
        plot_confusion_matrix(folder / "confusion.png", matrix, [(*names, "background")[row] for row in rows])
