"""Brings prediction and ground truth of any kinds to comparable numbers, with or without alignment."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from densevision.errors import UsageError
from densevision.results.depth_map import DepthMap

__all__ = ["DEFAULT_FAR", "Alignment", "Bounds", "Comparison", "fit_line", "make_comparable"]

DEFAULT_FAR = 1e4
"""Meters: depth of pixels without a prediction, or infinitely far ones, if the protocol has no maximum depth."""

Alignment = Literal["none", "median", "lstsq"]
Bounds = Literal["inclusive", "exclusive"]


class Comparison(NamedTuple):
    """The numbers of the N evaluated pixels.

    Attributes:
        prediction: (N,) depth as float32 or float64; to be clipped to the limits.
        truth: (N,) depth, positive, as float32 or float64.
        limits: Smallest and largest depth that predictions are clipped to.
        in_meters: Whether the numbers are meters; otherwise they are reciprocals of disparities.
        missing: Number of pixels without a prediction; they count as infinitely far.
        disparities: Prediction and ground truth, (N,) float64 pixels, if both are disparities.
    """

    prediction: np.ndarray
    truth: np.ndarray
    limits: tuple[float, float]
    in_meters: bool
    missing: int
    disparities: tuple[np.ndarray, np.ndarray] | None


def make_comparable(
    prediction: DepthMap,
    truth: DepthMap,
    window: tuple[slice, slice],
    align: Alignment,
    min_depth: float,
    max_depth: float | None,
    bounds: Bounds = "inclusive",
) -> Comparison:
    """Converts a prediction to the kind, and optionally aligns it with the scale, of the ground truth.

    Depth is aligned as depth. Disparity is aligned as disparity, because there its unknown shift is a constant (Ranftl
    et al., MiDaS, TPAMI 2020, section 5). Ground truth outside of min_depth to max_depth is ignored.

    Args:
        prediction: Of the same size.
        truth: The ground truth.
        window: Rows and columns that are evaluated.
        align: The alignment.
        min_depth: In meters.
        max_depth: In meters; None for no limit.
        bounds: Whether ground truth of exactly min_depth or max_depth counts.

    Raises:
        UsageError: Without alignment the two cannot be compared.
    """
    true_depth, in_meters = _to_depth(truth)
    known = truth.valid & (true_depth > 0)
    if window != (slice(None), slice(None)):
        outside = np.ones(truth.size, bool)
        outside[window] = False
        known &= ~outside
    if in_meters:
        is_inclusive = bounds == "inclusive"
        known &= true_depth >= min_depth if is_inclusive else true_depth > min_depth
        if max_depth is not None:
            known &= true_depth <= max_depth if is_inclusive else true_depth < max_depth
    pixels = np.flatnonzero(known)  # indexing by a mask would scan it once for every array
    target, numbers = (array.ravel()[pixels] for array in (true_depth, prediction.depth))
    has_prediction = None if prediction.valid.all() else prediction.valid.ravel()[pixels]
    if align == "none":
        depth = _convert(prediction, numbers, truth, in_meters)
    else:
        depth = _align(prediction, numbers.astype(np.float64), target.astype(np.float64), has_prediction, align)
    depth = depth if has_prediction is None else np.where(has_prediction, depth, np.inf)
    limits = min_depth, max_depth or DEFAULT_FAR
    disparities = None
    if truth.kind == "disparity" and prediction.kind == "disparity":
        true_disparity = truth.depth.ravel()[pixels].astype(np.float64)
        disparity = numbers.astype(np.float64) if align == "none" else _to_disparity(np.clip(depth, *limits), truth)
        if has_prediction is not None:
            disparity = np.where(has_prediction, disparity, 0.0)
        disparities = disparity, true_disparity
    missing = 0 if has_prediction is None else int((~has_prediction).sum())
    return Comparison(depth, target, limits, in_meters, missing, disparities)


def fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the least-squares line y = scale * x + shift; for a constant x, scale 0.

    >>> fit_line(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    centered = x - x.mean()
    variance = float(centered @ centered)
    scale = float(centered @ y) / variance if variance > 0 else 0.0
    return scale, float(y.mean() - scale * x.mean())


def _to_depth(truth: DepthMap) -> tuple[np.ndarray, bool]:
    """(H, W) depth, not positive where a disparity has none, and whether it is in meters."""
    if truth.kind != "disparity":
        return truth.depth, truth.kind == "metric"
    camera = truth.camera if truth.is_calibrated else None
    has_depth = truth.depth > (0 if camera is None else max(0.0, -camera.offset))
    disparity = np.where(has_depth, truth.depth, np.inf).astype(np.float64)
    return (1 / disparity, False) if camera is None else (camera.distance(disparity), True)


def _to_disparity(depth: np.ndarray, truth: DepthMap) -> np.ndarray:
    """Inverts `_to_depth`."""
    return truth.camera.disparity(depth) if truth.is_calibrated else 1 / depth  # type: ignore[union-attr]


def _convert(prediction: DepthMap, numbers: np.ndarray, truth: DepthMap, in_meters: bool) -> np.ndarray:
    """The prediction as the ground truth's kind of depth, without alignment."""
    if not prediction.unit and prediction.kind != truth.kind:
        problem = f"{prediction.kind} without a unit cannot be compared with {truth.kind} ground truth"
        raise UsageError(problem, field="evaluation.align", value="none", hint="Align by median or lstsq.")
    if prediction.kind != "disparity":
        if in_meters or truth.kind == prediction.kind:
            return numbers
        problem = "metric depth cannot be compared with disparities whose calibration is missing"
        hint = "Set camera.focal and camera.baseline of these images, or align by median or lstsq."
        raise UsageError(problem, field="evaluation.align", value="none", hint=hint)
    if not in_meters:
        with np.errstate(divide="ignore"):
            return 1 / numbers.astype(np.float64)
    calibrated = next((record for record in (truth, prediction) if record.is_calibrated), None)
    if calibrated is None:
        problem, hint = (
            "disparity needs a calibration to be compared with meters",
            ("Set camera.focal and camera.baseline, or align by median or lstsq."),
        )
        raise UsageError(problem, field="camera", value=truth.camera or prediction.camera, hint=hint)
    return calibrated.camera.distance(numbers.astype(np.float64))  # type: ignore[union-attr]


def _align(
    prediction: DepthMap, numbers: np.ndarray, target: np.ndarray, has_prediction: np.ndarray | None, align: str
) -> np.ndarray:
    """Depth of all pixels after a fit over those with a prediction."""
    x, y = (array if has_prediction is None else array[has_prediction] for array in (numbers, target))
    if not x.size:
        return numbers
    with np.errstate(divide="ignore"):
        if align == "median":
            depth, x = (1 / array if prediction.kind == "disparity" else array for array in (numbers, x))
            return depth * (np.median(y) / max(float(np.median(x)), 1e-12))
        if prediction.kind == "disparity":
            scale, shift = fit_line(x, 1 / y)
            return 1 / np.maximum(scale * numbers + shift, 0)
    scale, shift = fit_line(x, y)
    return scale * numbers + shift
