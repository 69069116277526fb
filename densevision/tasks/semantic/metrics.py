"""The numbers of semantic segmentation: from one confusion matrix, and from the borders. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.metrics.confusion import BAND, BoundaryOverlap, Confusion, mean, overlaps
from densevision.metrics.per_image import Columns, Sums, ratio
from densevision.results import SemanticMap


class SemanticMetric:
    """mIoU mAcc aAcc fwIoU mDice boundaryIoU over all pixels of all images; mergeable.

    Args:
        names: Class names.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.confusion = Confusion(len(names))
        self.borders = BoundaryOverlap(len(names))
        self.images: dict[str, dict[str, np.ndarray]] = {}

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        return {
            "pixels": "of all images together; unknown ones count nowhere",
            "mean": "over the classes that are there or answered",
            "boundary": f"within {BAND:.0%} of the diagonal",
        }

    def update(self, result: SemanticMap, truth: SemanticMap, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        if result.labels.shape != truth.labels.shape:
            problem = f"the classes are not of the truth's size, {truth.size}"
            raise DataError(problem, file=str(id), value=result.size, hint="Answer in the size of the image.")
        pixels, borders = Confusion(len(self.names)), BoundaryOverlap(len(self.names))
        pixels.update(result.labels, truth.labels)
        borders.update(result.labels, truth.labels)
        self.confusion.merge(pixels)
        self.borders.merge(borders)
        self.images[str(id)] = {
            "hits": pixels.matrix.diagonal().copy(),
            "truths": pixels.ground_truths,
            "answers": pixels.answers,
            "common": borders.common,
            "either": borders.either,
        }

    def merge(self, other: SemanticMetric) -> None:
        """Takes what another process gathered."""
        self.confusion.merge(other.confusion)
        self.borders.merge(other.borders)
        self.images |= other.images

    def per_image(self) -> Sums:
        """The counts of each image, from which the numbers of any choice of images follow."""
        blank = np.zeros(len(self.names), np.int64)
        return Sums(self.images, dict.fromkeys(("hits", "truths", "answers", "common", "either"), blank), _numbers)

    def counts(self) -> dict[str, int]:
        """What the numbers rest on."""
        absent = int(np.isnan(self.confusion.iou()).sum())
        return {
            "pixels": int(self.confusion.ground_truths.sum()),
            "unknown pixels": self.confusion.unknown,
            "images without a known pixel": sum(not row["truths"].any() for row in self.images.values()),
            "classes": len(self.names) - absent,
            "absent classes": absent,
        }

    def compute(self) -> dict[str, float]:
        """The headline numbers; NaN where no pixel defines them."""
        return {**self.confusion.compute(), "boundaryIoU": float(mean(self.borders.iou()))}

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """IoU, Dice, accuracy, precision, boundary IoU and pixels of each class."""
        found = self.confusion
        columns = {
            "IoU": found.iou(),
            "Dice": found.dice(),
            "accuracy": found.accuracy(),
            "precision": found.precision(),
            "boundaryIoU": self.borders.iou(),
            "pixels": found.ground_truths.astype(float),
        }
        rows = {
            name: {title: float(column[index]) for title, column in columns.items()}
            for index, name in enumerate(self.names)
        }
        return {"per class": rows}

    def plots(self, folder: Path) -> None:
        """Which class is taken for which."""
        from densevision.draw.plots import confusion

        confusion(folder / "confusion.png", self.confusion.matrix, self.names)


class MultilabelMetric:
    """The same numbers where a pixel may be of several classes: each class is judged for itself, as there or not.

    aAcc is the part of all decisions that are right, fwIoU weighs the classes by their pixels.

    Args:
        names: Class names.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.each = [SemanticMetric(("absent", name)) for name in names]

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        return {**SemanticMetric(()).protocol, "classes": "each for itself, as there or not"}

    def update(self, result: SemanticMap, truth: SemanticMap, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        for index, metric in enumerate(self.each):
            metric.update(_single(result, index), _single(truth, index), id)

    def merge(self, other: MultilabelMetric) -> None:
        """Takes what another process gathered."""
        for mine, theirs in zip(self.each, other.each):
            mine.merge(theirs)

    def per_image(self) -> Sums:
        """The counts of each image, from which the numbers of any choice of images follow."""
        blank = np.zeros(len(self.names), np.int64)
        rows = {id: self._row(id) for id in (self.each[0].images if self.each else ())}
        kinds = ("hits", "truths", "answers", "common", "either")
        return Sums(rows, {**dict.fromkeys(kinds, blank), "right": 0, "decided": 0}, _set_numbers)

    def _row(self, id: str) -> dict[str, Any]:
        rows = [metric.images[id] for metric in self.each]
        columns = {name: np.array([row[name][1] for row in rows]) for name in rows[0]}
        decided = sum(int(row["truths"].sum()) for row in rows)
        return {**columns, "right": sum(int(row["hits"].sum()) for row in rows), "decided": decided}

    def counts(self) -> dict[str, int]:
        """What the numbers rest on."""
        first = self.each[0].counts()
        absent = int(np.isnan([metric.confusion.iou()[1] for metric in self.each]).sum())
        return {**first, "classes": len(self.names) - absent, "absent classes": absent}

    def compute(self) -> dict[str, float]:
        """The headline numbers; NaN where no pixel defines them."""
        return self.per_image().compute()

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The same columns for each class."""
        rows = {name: metric.tables()["per class"][name] for name, metric in zip(self.names, self.each)}
        return {"per class": rows}

    def plots(self, folder: Path) -> None:
        """Nothing: no class is taken for another."""


def _numbers(sums: Columns) -> Columns:
    numbers = overlaps(sums["hits"], sums["truths"], sums["answers"])
    return {**numbers, "boundaryIoU": mean(ratio(sums["common"], sums["either"]))}


def _set_numbers(sums: Columns) -> Columns:
    return {**_numbers(sums), "aAcc": ratio(sums["right"], sums["decided"])}


def _single(record: SemanticMap, index: int) -> SemanticMap:
    """One class of sets of classes, as there (1), absent (0) or unknown (255)."""
    labels = np.where(record.known, record.mask(index), 255).astype(np.uint8)
    return SemanticMap(labels=labels, names=("absent", record.names[index]), size=record.size)
