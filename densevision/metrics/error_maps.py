"""Where in an image an answer is wrong: one number for each pixel, for every kind of record that has pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from densevision.results import DepthMap, FlowField, Image, Result, SemanticMap


class ErrorMap(NamedTuple):
    """The errors of one image.

    Attributes:
        values: (H, W) float64, at least 0.
        known: (H, W) bool, where the truth is known.
        caption: What the numbers are.
        limit: Number that counts as wholly wrong when it is drawn.
    """

    values: np.ndarray
    known: np.ndarray
    caption: str
    limit: float


def error_map(answer: Result, truth: Result) -> ErrorMap | None:
    """The errors of an answer; None for records that have no pixels, or of different sizes."""
    if isinstance(truth, SemanticMap):
        wrong = np.asarray(answer.labels != truth.labels, np.float64)
        return ErrorMap(wrong, truth.known, "wrong pixels", 1.0)
    if isinstance(truth, DepthMap):
        return _depth(answer, truth)
    if isinstance(truth, FlowField):
        error = np.hypot(*(answer.flow.astype(np.float64) - truth.flow))
        return ErrorMap(np.where(truth.valid, error, 0), truth.valid, "end-point error, dark at 5 px", 5.0)
    if isinstance(truth, Image) and answer.image.shape == truth.image.shape:
        difference = np.abs(answer.unit().astype(np.float64) - truth.unit())
        known = np.isfinite(difference).all(2)
        error = np.where(known, difference.mean(2), 0)
        return ErrorMap(255 * error, known, "difference, dark at 40 of 255", 40.0)
    return None


def _depth(answer: DepthMap, truth: DepthMap) -> ErrorMap | None:
    """The relative error of depth, after the factor that the medians ask for where the answer has no unit."""
    known = truth.valid & (truth.depth > 0) & answer.valid
    with np.errstate(divide="ignore"):
        said, told = (
            np.where(known, 1 / one.depth if one.kind == "disparity" else one.depth, 1).astype(np.float64)
            for one in (answer, truth)
        )
    if known.any() and (answer.kind, answer.unit) != (truth.kind, truth.unit):
        said *= np.median(told[known]) / max(float(np.median(said[known])), 1e-12)
    error = np.abs(said - told) / told
    return ErrorMap(np.where(known, error, 0), known, "relative error, dark at 25 %", 0.25)
