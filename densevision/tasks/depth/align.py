"""Answer and truth of any two kinds as numbers that can be compared, with or without alignment."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from densevision.errors import UsageError
from densevision.results.depth_map import Camera, DepthMap

FAR = 1e4
"""Meters: where no farthest distance is set, what is left open or infinitely far is judged as this far."""


class Pair(NamedTuple):
    """Numbers at the pixels that count.

    Attributes:
        answer: (N,) depth, as float as it came; judged within the limits.
        truth: (N,) depth, positive, as float as it came.
        limits: Nearest and farthest answer that is believed; what lies beyond is taken for the limit itself.
        in_meters: Whether they are; otherwise they are reciprocals of disparities.
        left_open: How many of the pixels the answer calls unknown; they are judged as infinitely far.
        disparities: Answer and truth, (M,) float64 in pixels, where the truth is one and the answer can be.
    """

    answer: np.ndarray
    truth: np.ndarray
    limits: tuple[float, float]
    in_meters: bool
    left_open: int
    disparities: tuple[np.ndarray, np.ndarray] | None


def comparable(
    result: DepthMap,
    truth: DepthMap,
    window: tuple[slice, slice],
    align: Literal["none", "median", "lstsq"],
    nearest: float,
    farthest: float | None,
) -> Pair:
    """Brings an answer to the kind and, on request, to the scale of the truth.

    Depth is aligned as depth. Disparity is aligned in its own space, because there its unknown offset is a constant
    (Ranftl et al., MiDaS, TPAMI 2020, section 5). Truth outside [nearest, farthest] does not count; these are the
    limits of the answers.

    Raises:
        UsageError: Without alignment the two cannot be compared.
    """
    real, in_meters = _true_depth(truth)
    known = truth.valid & (real > 0)
    if window != (slice(None), slice(None)):
        outside = np.ones(truth.size, bool)
        outside[window] = False
        known &= ~outside
    if in_meters:
        known &= real >= nearest
        known &= real <= farthest if farthest is not None else True
    place = np.flatnonzero(known)  # looked up once: a mask would be walked through for every image anew
    wanted, found = (numbers.ravel()[place] for numbers in (real, result.depth))
    there = None if result.valid.all() else result.valid.ravel()[place]
    if align == "none":
        answer = _as_it_is(result, found, truth, in_meters)
    else:
        answer = _aligned(result, found.astype(np.float64), wanted.astype(np.float64), there, align)
    answer = answer if there is None else np.where(there, answer, np.inf)
    limits = nearest, farthest or FAR
    disparities = None
    if truth.kind == "disparity" and result.kind == "disparity":
        straight = truth.depth.ravel()[place].astype(np.float64)
        own = found.astype(np.float64) if align == "none" else _disparity(np.clip(answer, *limits), truth)
        disparities = (own if there is None else np.where(there, own, 0.0), straight)
    left_open = 0 if there is None else int((~there).sum())
    return Pair(answer, wanted, limits, in_meters, left_open, disparities)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Factor and offset of the least-squares line y = factor * x + offset; for a constant x, factor 0.

    >>> line(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    centered = x - x.mean()
    spread = float(centered @ centered)
    factor = float(centered @ y) / spread if spread > 0 else 0.0
    return factor, float(y.mean() - factor * x.mean())


def _true_depth(truth: DepthMap) -> tuple[np.ndarray, bool]:
    """(H, W) depth, and whether it is in meters; not positive where a disparity tells none."""
    if truth.kind != "disparity":
        return truth.depth, truth.kind == "metric"
    camera = truth.camera if _calibrated(truth.camera) else None
    seen = truth.depth > (0 if camera is None else max(0.0, -camera.offset))
    numbers = np.where(seen, truth.depth, np.inf).astype(np.float64)
    return (1 / numbers, False) if camera is None else (camera.distance(numbers), True)


def _disparity(depth: np.ndarray, truth: DepthMap) -> np.ndarray:
    """What `_true_depth` makes such depth of."""
    return truth.camera.disparity(depth) if _calibrated(truth.camera) else 1 / depth


def _as_it_is(result: DepthMap, found: np.ndarray, truth: DepthMap, in_meters: bool) -> np.ndarray:
    if not result.unit and result.kind != truth.kind:
        problem = f"{result.kind} without a unit cannot be compared with {truth.kind} truth as it is"
        raise UsageError(problem, field="evaluation.align", value="none", hint="Align by median or lstsq.")
    if result.kind != "disparity":
        if in_meters or truth.kind == result.kind:
            return found
        problem = "metric depth cannot be compared with disparities whose calibration is missing"
        hint = "Set camera.focal and camera.baseline of these images, or align by median or lstsq."
        raise UsageError(problem, field="evaluation.align", value="none", hint=hint)
    if not in_meters:
        with np.errstate(divide="ignore"):
            return 1 / found.astype(np.float64)
    camera = truth.camera if _calibrated(truth.camera) else result.camera
    if not _calibrated(camera):
        problem = "disparity is compared with meters through the cameras' focal length and baseline"
        raise UsageError(problem, field="camera", value=camera, hint="Set camera.focal and camera.baseline, or align.")
    return camera.distance(found.astype(np.float64))


def _aligned(
    result: DepthMap, found: np.ndarray, wanted: np.ndarray, there: np.ndarray | None, align: str
) -> np.ndarray:
    """Fitted where the answer is `there`; everywhere when not given."""
    told, split_mean = (numbers if there is None else numbers[there] for numbers in (found, wanted))
    if not told.size:
        return found
    with np.errstate(divide="ignore"):
        if align == "median":
            depth, told = (1 / numbers if result.kind == "disparity" else numbers for numbers in (found, told))
            return depth * (np.median(split_mean) / max(float(np.median(told)), 1e-12))
        if result.kind == "disparity":
            factor, offset = line(told, 1 / split_mean)
            return 1 / np.maximum(factor * found + offset, 0)
    factor, offset = line(told, split_mean)
    return factor * found + offset


def _calibrated(camera: Camera | None) -> bool:
    return camera is not None and camera.baseline is not None
