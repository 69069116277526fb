"""Answer and truth of any two kinds as numbers that can be compared, with or without alignment."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from densevision.errors import UsageError
from densevision.results.depth_map import Camera, DepthMap

FAR = 1e4
"""Where no farthest distance is set, what is answered as infinitely far is judged as this far."""


class Pair(NamedTuple):
    """Numbers at the pixels that count.

    Attributes:
        answer: (N,) depth, as float as it came; judged within the limits.
        truth: (N,) depth, positive, as float as it came.
        limits: Nearest and farthest answer that is believed; what lies beyond is taken for the limit itself.
        in_metres: Whether they are; otherwise they are reciprocals of disparities.
        left_open: How many of the pixels the answer calls unknown; they are judged as infinitely far.
        disparities: Answer and truth, (M,) float64 in pixels, where the truth is one and the answer can be.
    """

    answer: np.ndarray
    truth: np.ndarray
    limits: tuple[float, float]
    in_metres: bool
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
    known = truth.valid & (truth.depth > 0)
    if window != (slice(None), slice(None)):
        outside = np.ones(truth.size, bool)
        outside[window] = False
        known &= ~outside
    real, in_metres = _true_depth(truth)
    if in_metres:
        known &= real >= nearest
        known &= real <= farthest if farthest is not None else True
    place = np.flatnonzero(known)  # looked up once: a mask would be walked through for every picture anew
    wanted, found = (numbers.ravel()[place] for numbers in (real, result.depth))
    there = None if result.valid.all() else result.valid.ravel()[place]
    if align == "none":
        answer = _as_it_is(result, found, truth, in_metres)
    else:
        answer = _aligned(result, found.astype(np.float64), wanted.astype(np.float64), align)
    answer = answer if there is None else np.where(there, answer, np.inf)
    limits = nearest, farthest or FAR
    disparities = None
    if truth.kind == "disparity" and result.kind == "disparity":
        straight = truth.depth.ravel()[place].astype(np.float64)
        own = found.astype(np.float64) if align == "none" else _factor(truth, in_metres) / np.clip(answer, *limits)
        disparities = (own if there is None else np.where(there, own, 0.0), straight)
    left_open = 0 if there is None else int((~there).sum())
    return Pair(answer, wanted, limits, in_metres, left_open, disparities)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Factor and offset of the least-squares line y = factor * x + offset; for a constant x, factor 0.

    >>> line(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    centred = x - x.mean()
    spread = float(centred @ centred)
    factor = float(centred @ y) / spread if spread > 0 else 0.0
    return factor, float(y.mean() - factor * x.mean())


def _true_depth(truth: DepthMap) -> tuple[np.ndarray, bool]:
    """(H, W) depth, and whether it is in metres; where it is unknown, any number."""
    if truth.kind != "disparity":
        return truth.depth, truth.kind == "metric"
    numbers = np.where(truth.valid & (truth.depth > 0), truth.depth, 1).astype(np.float64)
    return _factor(truth, _calibrated(truth.camera)) / numbers, _calibrated(truth.camera)


def _factor(truth: DepthMap, in_metres: bool) -> float:
    """What a disparity divides to give depth."""
    return truth.camera.focal * truth.camera.baseline if in_metres and truth.camera is not None else 1.0


def _as_it_is(result: DepthMap, found: np.ndarray, truth: DepthMap, in_metres: bool) -> np.ndarray:
    if not result.unit and result.kind != truth.kind:
        problem = f"{result.kind} without a unit cannot be compared with {truth.kind} truth as it is"
        raise UsageError(problem, field="evaluation.align", value="none", mend="Align by median or lstsq.")
    if result.kind != "disparity":
        if in_metres or truth.kind == result.kind:
            return found
        problem = "metric depth cannot be compared with disparities whose calibration is missing"
        raise UsageError(problem, field="evaluation.align", value="none", mend="Align by median or lstsq.")
    with np.errstate(divide="ignore"):
        reciprocal = 1 / found.astype(np.float64)
    if not in_metres:
        return reciprocal
    camera = truth.camera if _calibrated(truth.camera) else result.camera
    if not _calibrated(camera):
        problem = "disparity is compared with metres through the cameras' focal length and baseline"
        raise UsageError(problem, field="camera", value=camera, mend="Set camera.focal and camera.baseline, or align.")
    return reciprocal * camera.focal * camera.baseline


def _aligned(result: DepthMap, found: np.ndarray, wanted: np.ndarray, align: str) -> np.ndarray:
    if not wanted.size:
        return found
    with np.errstate(divide="ignore"):
        if align == "median":
            depth = 1 / found if result.kind == "disparity" else found
            return depth * (np.median(wanted) / max(float(np.median(depth)), 1e-12))
        if result.kind == "disparity":
            factor, offset = line(found, 1 / wanted)
            return 1 / np.maximum(factor * found + offset, 0)
    factor, offset = line(found, wanted)
    return factor * found + offset


def _calibrated(camera: Camera | None) -> bool:
    return camera is not None and camera.baseline is not None
