"""COCO's numbers for boxes, masks and keypoints, and for the boundaries of masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.box_confusion import BoxConfusion
from densevision.metrics.per_image import JoinedStats
from densevision.results import Instances


class InstanceMetric:
    """The twelve numbers for each thing that objects have, under names such as segm/AP; mergeable.

    Args:
        names: Class names.
        kinds: What is judged: "bbox", and "segm", "boundary" or "keypoints".
        sigmas: Spread of each keypoint.
    """

    def __init__(self, names: Sequence[str], kinds: Sequence[str] = ("bbox", "segm"), sigmas: Sequence[float] = ()):
        self.parts = {kind: AveragePrecision(names, kind, sigmas) for kind in kinds}
        self.confusion = BoxConfusion(names)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        shared, *others = (part.protocol for part in self.parts.values())
        own = {kind: part.protocol for kind, part in self.parts.items()}
        same = {key: value for key, value in shared.items() if all(other.get(key) == value for other in others)}
        differing = {kind: {key: value for key, value in part.items() if key not in same} for kind, part in own.items()}
        return {**same, **differing}

    def update(self, result: Instances, truth: Instances, id: int | str) -> None:
        """Takes the objects and the truth of one image."""
        for part in self.parts.values():
            part.update(result, truth, id)
        self.confusion.update(result, truth)

    def merge(self, other: InstanceMetric) -> None:
        """Takes what another process gathered."""
        for kind, part in self.parts.items():
            part.merge(other.parts[kind])
        self.confusion.merge(other.confusion)

    def counts(self) -> dict[str, int]:
        """How many truths and predictions the numbers rest on."""
        return self.parts["bbox"].counts()

    def compute(self) -> dict[str, float]:
        """bbox/AP bbox/AP50 ... segm/AP ... keypoints/AP ...; NaN where there is no truth."""
        return {f"{kind}/{name}": value for kind, part in self.parts.items() for name, value in part.compute().items()}

    def per_image(self) -> JoinedStats:
        """The matches of each image, from which the numbers of any choice of images follow."""
        return JoinedStats((f"{kind}/", part.per_image()) for kind, part in self.parts.items())

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The same numbers for each class."""
        return {f"{kind} per class": part.per_class() for kind, part in self.parts.items()}

    def plots(self, folder: Path) -> None:
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
