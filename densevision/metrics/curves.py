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


def table(
    definitions: Sequence[dict[str, Any]], params: Params, precision: np.ndarray, recall: np.ndarray
) -> dict[str, np.ndarray]:
    """Reads the named metrics off arrays (threshold, [recall,] class, size, number of predictions).

    Args:
        definitions: hotcoco's: name, area, most predictions and threshold of each metric.
        params: What the axes of the arrays are.
        precision: With recall as its second axis; -1 where there is no truth.
        recall: Without.
    """
    numbers = {}
    for metric in definitions:
        size, most = params.area_rng_lbl.index(metric["area"]), params.max_dets.index(metric["max_det"])
        values = (precision if metric["ap"] else recall)[..., size, most]
        if metric["iou_thr"] is not None:
            values = values[np.isclose(params.iou_thrs, metric["iou_thr"])]
        # -1 fills whole classes, never a part of one, so the mean shows it as well as the parts do.
        numbers[metric["name"]] = known(values.mean(axis=tuple(range(values.ndim - 1))))
    return numbers
