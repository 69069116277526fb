"""Precision-recall and F1 curves, and COCO's metrics read off their arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hotcoco import Params

__all__ = ["Curves", "extract_curves", "extract_metrics"]

CURVE_IOU = 0.5


@dataclass(frozen=True)
class Curves:
    """Precision and confidence over recall, at an IoU of 0.5, all sizes, the largest number of predictions.

    Attributes:
        names: Class names, K of them.
        recall: (R,) recall, 0 to 1.
        precision: (K, R) interpolated precision; 0 above the highest recall, NaN for classes without ground truth.
        confidence: (K, R) score of the prediction that reaches this recall; 0 above the highest recall, NaN without
            ground truth.
    """

    names: tuple[str, ...]
    recall: np.ndarray
    precision: np.ndarray
    confidence: np.ndarray

    def f1(self, confidences: np.ndarray) -> np.ndarray:
        """F1 of the predictions with at least each confidence: (K, C) for (C,) confidences.

        Recall has a resolution of 1/(R - 1), and so has F1.
        """
        harmonic = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-12)
        scores = np.where(self.precision > 0, self.confidence, -np.inf)
        rows = []
        for values, descending in zip(harmonic, scores):
            last = np.searchsorted(-descending, -np.asarray(confidences), side="right") - 1
            rows.append(np.where(np.isnan(values[0]), np.nan, np.where(last < 0, 0.0, values[last])))
        return np.array(rows).reshape(len(self.names), -1)


def extract_curves(params: Params, arrays: Any, names: Sequence[str]) -> Curves:
    """The curves in the arrays of a COCO evaluation, whose axes `params` describes."""
    index = int(np.argmin(np.abs(np.array(params.iou_thrs) - CURVE_IOU)))
    precision, confidence = (_mask_undefined(arrays[key][index, :, :, 0, -1].T) for key in ("precision", "scores"))
    return Curves(tuple(names), np.array(params.rec_thrs), precision, confidence)


def extract_metrics(
    definitions: Sequence[dict[str, Any]], params: Params, precision: np.ndarray, recall: np.ndarray
) -> dict[str, np.ndarray]:
    """Reads the named metrics off arrays (threshold, [recall,] class, size, number of predictions).

    Args:
        definitions: hotcoco's: name, area, maximum of predictions and threshold of each metric.
        params: Describes the axes of the arrays.
        precision: With recall as its second axis; -1 where there is no ground truth.
        recall: Without that axis.

    Returns:
        Metric name -> (K,) values by class, NaN without ground truth.
    """
    metrics = {}
    for metric in definitions:
        size, limit = params.area_rng_lbl.index(metric["area"]), params.max_dets.index(metric["max_det"])
        values = (precision if metric["ap"] else recall)[..., size, limit]
        if metric["iou_thr"] is not None:
            values = values[np.isclose(params.iou_thrs, metric["iou_thr"])]
        # -1 fills all entries of a class or none, so the mean is negative exactly where the entries are.
        metrics[metric["name"]] = _mask_undefined(values.mean(axis=tuple(range(values.ndim - 1))))
    return metrics


def _mask_undefined(values: np.ndarray) -> np.ndarray:
    """NaN in place of -1, COCO's mark of undefined values."""
    return np.where(values < 0, np.nan, values)
