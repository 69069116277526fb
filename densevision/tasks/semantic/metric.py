"""The numbers of semantic segmentation: from one confusion matrix, and from the borders. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.confusion import BAND, BoundaryOverlap, Confusion, mean, ratio
from densevision.results import SemanticMap


class SemanticMetric:
    """mIoU mAcc aAcc fwIoU mDice boundaryIoU over all pixels of all pictures; mergeable.

    Args:
        names: Class names.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.confusion = Confusion(len(names))
        self.borders = BoundaryOverlap(len(names))
        self.blank = 0

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        return {
            "pixels": "of all pictures together; unknown ones count nowhere",
            "mean": "over the classes that are there or answered",
            "boundary": f"within {BAND:.0%} of the diagonal",
        }

    def update(self, result: SemanticMap, truth: SemanticMap, id: int | str) -> None:
        """Takes the answer and the truth of one picture."""
        self.blank += not truth.known.any()
        self.confusion.update(result.labels, truth.labels)
        self.borders.update(result.labels, truth.labels)

    def merge(self, other: SemanticMetric) -> None:
        """Takes what another process gathered."""
        self.confusion.merge(other.confusion)
        self.borders.merge(other.borders)
        self.blank += other.blank

    def counts(self) -> dict[str, int]:
        """What the numbers rest on."""
        absent = int(np.isnan(self.confusion.iou()).sum())
        return {
            "pixels": int(self.confusion.truths.sum()),
            "unknown pixels": self.confusion.unknown,
            "images without a known pixel": self.blank,
            "classes": len(self.names) - absent,
            "absent classes": absent,
        }

    def compute(self) -> dict[str, float]:
        """The headline numbers; NaN where no pixel defines them."""
        return {**self.confusion.compute(), "boundaryIoU": mean(self.borders.iou())}

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """IoU, Dice, accuracy, precision, boundary IoU and pixels of each class."""
        found = self.confusion
        columns = {
            "IoU": found.iou(),
            "Dice": found.dice(),
            "accuracy": found.accuracy(),
            "precision": found.precision(),
            "boundaryIoU": self.borders.iou(),
            "pixels": found.truths.astype(float),
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
        """Takes the answer and the truth of one picture."""
        for index, metric in enumerate(self.each):
            metric.update(_single(result, index), _single(truth, index), id)

    def merge(self, other: MultilabelMetric) -> None:
        """Takes what another process gathered."""
        for mine, theirs in zip(self.each, other.each):
            mine.merge(theirs)

    def counts(self) -> dict[str, int]:
        """What the numbers rest on."""
        first = self.each[0].counts()
        absent = int(np.isnan([metric.confusion.iou()[1] for metric in self.each]).sum())
        return {**first, "classes": len(self.names) - absent, "absent classes": absent}

    def compute(self) -> dict[str, float]:
        """The headline numbers; NaN where no pixel defines them."""
        found = [metric.confusion for metric in self.each]
        iou = np.array([one.iou()[1] for one in found])
        pixels = np.array([one.truths[1] for one in found])
        right, all_of_them = (sum(values) for values in zip(*((c.matrix.trace(), c.truths.sum()) for c in found)))
        shares = ratio(pixels, np.full(len(iou), pixels.sum()))
        return {
            "mIoU": mean(iou),
            "mAcc": mean(np.array([one.accuracy()[1] for one in found])),
            "aAcc": float(ratio(right, all_of_them)),
            "fwIoU": float(np.nansum(shares * iou)) if pixels.any() else float("nan"),
            "mDice": mean(np.array([one.dice()[1] for one in found])),
            "boundaryIoU": mean(np.array([metric.borders.iou()[1] for metric in self.each])),
        }

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The same columns for each class."""
        rows = {name: metric.tables()["per class"][name] for name, metric in zip(self.names, self.each)}
        return {"per class": rows}

    def plots(self, folder: Path) -> None:
        """Nothing: no class is taken for another."""


def _single(record: SemanticMap, index: int) -> SemanticMap:
    """One class of sets of classes, as there (1), absent (0) or unknown (255)."""
    labels = np.where(record.known, record.mask(index), 255).astype(np.uint8)
    return SemanticMap(labels=labels, names=("absent", record.names[index]), size=record.size)
