"""Precision, recall and F1 over each other: what average precision is the area under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hotcoco import Params

CURVE_IOU = 0.5


@dataclass(frozen=True)
class Curves:
    """Precision and confidence over recall, at an IoU of 0.5, all sizes, the largest number of predictions.

    Attributes:
        names: Class names, K of them.
        recall: (R,) recall, 0 to 1.
        precision: (K, R) interpolated precision; 0 beyond the recall that was reached, NaN for a class without truth.
        confidence: (K, R) score of the prediction at which that recall is reached; 0 beyond, NaN without truth.
    """

    names: tuple[str, ...]
    recall: np.ndarray
    precision: np.ndarray
    confidence: np.ndarray

    def f1(self, confidences: np.ndarray) -> np.ndarray:
        """F1 when only predictions of at least a confidence are kept: (K, C) for (C,) confidences.

        Recall is known to 1/(R - 1), so F1 is too.
        """
        harmonic = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-12)
        scores = np.where(self.precision > 0, self.confidence, -np.inf)
        rows = []
        for values, falling in zip(harmonic, scores):
            reached = np.searchsorted(-falling, -np.asarray(confidences), side="right") - 1
            rows.append(np.where(np.isnan(values[0]), np.nan, np.where(reached < 0, 0.0, values[reached])))
        return np.array(rows).reshape(len(self.names), -1)


def curves_of(params: Params, arrays: Any, names: Sequence[str]) -> Curves:
    """The curves that an evaluation's arrays hold; `params` says what their axes are."""
    at = int(np.argmin(np.abs(np.array(params.iou_thrs) - CURVE_IOU)))
    precision, confidence = (known(arrays[key][at, :, :, 0, -1].T) for key in ("precision", "scores"))
    return Curves(tuple(names), np.array(params.rec_thrs), precision, confidence)


def known(values: np.ndarray) -> np.ndarray:
    """NaN in the place of the -1 that stands for what no truth defines."""
    return np.where(values < 0, np.nan, values)
