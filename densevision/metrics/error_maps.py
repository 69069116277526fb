"""Per-pixel errors of every dense result type."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from densevision.results import DepthMap, FlowField, Image, Result, SemanticMap

__all__ = ["ErrorMap", "compute_error_map"]


class ErrorMap(NamedTuple):
    """The errors of one image.

    Attributes:
        values: (H, W) float64, at least 0.
        known: (H, W) bool, where the ground truth is known.
        caption: What the numbers are.
        limit: Error that is drawn at full strength.
    """

    values: np.ndarray
    known: np.ndarray
    caption: str
    limit: float


def compute_error_map(prediction: Result, truth: Result) -> ErrorMap | None:
    """The errors of a prediction; None for results without pixels, or of different sizes."""
    if isinstance(truth, SemanticMap) and isinstance(prediction, SemanticMap):
        wrong = np.asarray(prediction.labels != truth.labels, np.float64)
        return ErrorMap(wrong, truth.known, "wrong pixels", 1.0)
    if isinstance(truth, DepthMap) and isinstance(prediction, DepthMap):
        return _compute_depth_errors(prediction, truth)
    if isinstance(truth, FlowField) and isinstance(prediction, FlowField):
        error = np.hypot(*(prediction.flow.astype(np.float64) - truth.flow))
        return ErrorMap(np.where(truth.valid, error, 0), truth.valid, "end-point error, dark at 5 px", 5.0)
    if isinstance(truth, Image) and isinstance(prediction, Image) and prediction.image.shape == truth.image.shape:
        difference = np.abs(prediction.unit().astype(np.float64) - truth.unit())
        known = np.isfinite(difference).all(2)
        error = np.where(known, difference.mean(2), 0)
        return ErrorMap(255 * error, known, "difference, dark at 40 of 255", 40.0)
    return None


def _compute_depth_errors(prediction: DepthMap, truth: DepthMap) -> ErrorMap:
    """Relative errors of depth; predictions of another unit are first scaled by the ratio of the medians."""
    known = truth.valid & (truth.depth > 0) & prediction.valid
    with np.errstate(divide="ignore"):
        predicted_depth, true_depth = (
            np.where(known, 1 / depth_map.depth if depth_map.kind == "disparity" else depth_map.depth, 1).astype(
                np.float64
            )
            for depth_map in (prediction, truth)
        )
    if known.any() and (prediction.kind, prediction.unit) != (truth.kind, truth.unit):
        predicted_depth *= np.median(true_depth[known]) / max(float(np.median(predicted_depth[known])), 1e-12)
    error = np.abs(predicted_depth - true_depth) / true_depth
    return ErrorMap(np.where(known, error, 0), known, "relative error, dark at 25 %", 0.25)
