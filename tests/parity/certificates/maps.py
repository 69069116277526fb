"""Depth and flow against scikit-learn and the definitions of their benchmarks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from sklearn import metrics

from certificates.certificate import Case, Certificate, pair_numbers
from densevision.results import DepthMap, FlowField
from densevision.tasks.depth.metrics import DepthMetric, Protocol
from densevision.tasks.flow.metrics import FlowMetric

SIZE = (24, 40)
Metrics = dict[str, float]


def make_depths(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, ground truth, and where the ground truth is known."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 120, SIZE).astype(np.float32)
    return (truth * np.exp(rng.normal(0, 0.3, SIZE))).astype(np.float32), truth, rng.random(SIZE) < 0.6


def compute_reference(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The nine metrics of (N,) float64."""
    log = np.log(prediction) - np.log(truth)
    result = {
        "AbsRel": metrics.mean_absolute_percentage_error(truth, prediction),
        "SqRel": float(np.mean([(a - t) ** 2 / t for a, t in zip(prediction, truth)])),
        "RMSE": math.sqrt(metrics.mean_squared_error(truth, prediction)),
        "RMSElog": math.sqrt(metrics.mean_squared_error(np.log(truth), np.log(prediction))),
        "log10": metrics.mean_absolute_error(np.log10(truth), np.log10(prediction)),
        "SILog": 100 * math.sqrt((log**2).mean() - log.mean() ** 2),
    }
    factor = np.maximum(prediction / truth, truth / prediction)
    return result | {f"delta{power}": float((factor < 1.25**power).mean()) for power in (1, 2, 3)}


def evaluate_depth(prediction: DepthMap, truth: DepthMap, **rules) -> dict[str, float]:
    """Our metrics, without the protocol in their names."""
    metric = DepthMetric(Protocol(**rules))
    metric.update(prediction, truth, 0)
    return {name.partition("/")[0]: value for name, value in metric.compute().items()}


def compare_depth() -> Iterator[Case]:
    """Caps, crops and alignment."""
    for seed in range(4):
        prediction, truth, valid = make_depths(seed)
        target = DepthMap.from_arrays(truth, valid)
        a, t = (side.astype(np.float64) for side in (prediction, truth))
        ours = evaluate_depth(DepthMap.from_arrays(prediction), target)
        yield from pair_numbers("unknown pixels", ours, compute_reference(a[valid], t[valid]))
        capped = valid & (truth >= 1e-3) & (truth <= 80)
        reference = compute_reference(a[capped].clip(1e-3, 80), t[capped])
        ours = evaluate_depth(DepthMap.from_arrays(prediction), target, max_depth=80.0)
        yield from pair_numbers("cap at 80 m", ours, reference)
        # As monodepth2's evaluate_depth.py selects pixels, on depths in whole meters, of which some lie at the ends.
        whole = np.round(truth)
        inside = valid & np.logical_and(whole > 1, whole < 80)
        rounded, ends = DepthMap.from_arrays(whole, valid), {"min_depth": 1.0, "max_depth": 80.0}
        ours = evaluate_depth(DepthMap.from_arrays(prediction), rounded, bounds="exclusive", **ends)
        reference = compute_reference(a[inside].clip(1, 80), whole[inside].astype(np.float64))
        yield from pair_numbers("ends of the range excluded", ours, reference)
        scaled = a[valid] * np.median(t[valid]) / np.median(a[valid])
        relative = DepthMap.from_arrays(prediction / 7, kind="relative", unit="")
        reference = compute_reference(scaled, t[valid])
        yield from pair_numbers("aligned by the median", evaluate_depth(relative, target, align="median"), reference)
        yield from pair_numbers("aligned by least squares", *_compare_least_squares(a, t, valid))
        yield from pair_numbers("crops of Eigen, Garg and NYU", *_compare_crops(seed))


def _compare_least_squares(a: np.ndarray, t: np.ndarray, valid: np.ndarray) -> tuple[Metrics, Metrics]:
    disparity = (3 / a + 0.01).astype(np.float32)
    columns = np.stack([disparity[valid].astype(np.float64), np.ones(valid.sum())], 1)
    (factor, offset), *_ = np.linalg.lstsq(columns, 1 / t[valid], rcond=None)
    prediction = (1 / np.maximum(factor * disparity[valid].astype(np.float64) + offset, 1e-300)).clip(1e-3, 1e4)
    record = DepthMap.from_arrays(disparity, kind="disparity", unit="")
    ours = evaluate_depth(record, DepthMap.from_arrays(t.astype(np.float32), valid), align="lstsq")
    return ours, compute_reference(prediction, t[valid])


def _compare_crops(seed: int) -> tuple[Metrics, Metrics]:
    """One of the published crops, as their authors' code writes it."""
    rng = np.random.default_rng(seed)
    height, width = (480, 640) if seed % 3 == 2 else (375, 1242)
    truth = rng.uniform(1, 70, (height, width)).astype(np.float32)
    prediction = (truth * np.exp(rng.normal(0, 0.2, truth.shape))).astype(np.float32)
    windows = {
        "garg": np.array([0.40810811 * height, 0.99189189 * height, 0.03594771 * width, 0.96405229 * width]),
        "eigen": np.array([0.3324324 * height, 0.91351351 * height, 0.0359477 * width, 0.96405229 * width]),
        "nyu": np.array([45, 471, 41, 601]),
    }
    name = ("garg", "eigen", "nyu")[seed % 3]
    top, bottom, left, right = windows[name].astype(np.int32)
    inside = np.s_[top:bottom, left:right]
    reference = compute_reference(*(side[inside].ravel().astype(np.float64) for side in (prediction, truth)))
    return evaluate_depth(DepthMap.from_arrays(prediction), DepthMap.from_arrays(truth), crop=name), reference


def compare_disparity() -> Iterator[Case]:
    """KITTI's D1 and Middlebury's bad pixels, at and beside their limits."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.choice([20.0, 60, 100, 200], SIZE).astype(np.float32)
        error = rng.choice([0, 1, 2, 3, 3.001, 5, 5.001, 10, 10.001], SIZE).astype(np.float32)
        valid, prediction = rng.random(SIZE) < 0.7, truth + error
        kind = {"kind": "disparity", "unit": "px"}
        off = np.abs(prediction[valid].astype(np.float64) - truth[valid])
        reference = {"EPE": off.mean(), "D1": np.mean((off > 3) & (off / truth[valid] > 0.05))}
        reference |= {f"bad{limit}": np.mean(off > limit) for limit in (1, 2, 3)}
        reference["medRel"] = np.median(off / truth[valid])
        result = evaluate_depth(DepthMap.from_arrays(prediction, **kind), DepthMap.from_arrays(truth, valid, **kind))
        yield from pair_numbers("errors at the limits, unknown pixels", result, reference)


def compare_flow() -> Iterator[Case]:
    """KITTI's rule at its limits, unknown and left-open pixels, speeds, visibility and angles."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = (rng.normal(0, 1, (2, *SIZE)) * rng.choice([1, 15, 60], SIZE)).astype(np.float32)
        length = rng.choice([0, 1, 3, 3.001, 5, 8], SIZE)
        angle = rng.uniform(0, 2 * math.pi, SIZE)
        prediction = (truth + length * np.stack([np.cos(angle), np.sin(angle)])).astype(np.float32)
        valid, hidden = rng.random(SIZE) < 0.7, rng.random(SIZE) < 0.2
        is_open = rng.random(SIZE) < 0.1 * (seed % 2)
        metric = FlowMetric()
        estimate = FlowField.from_arrays(prediction, ~is_open, rng.random(SIZE))
        metric.update(estimate, FlowField.from_arrays(truth, valid, hidden), 0)
        filled = np.where(is_open, 0, prediction)
        name = "pixels without prediction" if seed % 2 else "unknown pixels, errors at 3 px and 5 %"
        reference = _compute_flow_reference(filled.astype(np.float64), truth.astype(np.float64), valid, hidden)
        reference["F1_occ"] = metrics.f1_score(hidden[valid], estimate.occluded[valid])
        yield from pair_numbers(name, metric.compute(), reference)
        # A second image of other size, so that the mean over images differs from that over pixels.
        part = np.s_[:, :7, :9]
        metric.update(FlowField.from_arrays(2 * filled[part]), FlowField.from_arrays(truth[part]), 1)
        error = np.sqrt(((2 * filled[part].astype(np.float64) - truth[part]) ** 2).sum(0)).mean()
        yield Case("mean over two images", metric.compute()["EPE_images"], (reference["EPE"] + error) / 2)


def _compute_flow_reference(u: np.ndarray, t: np.ndarray, valid: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    error = np.sqrt(((u - t) ** 2).sum(0))
    speed = np.sqrt((t**2).sum(0))
    cosine = ((u * t).sum(0) + 1) / np.sqrt(((u**2).sum(0) + 1) * ((t**2).sum(0) + 1))
    result = {
        "EPE": error[valid].mean(),
        "Fl": np.mean((error[valid] > 3) & (error[valid] / np.maximum(speed[valid], 1e-12) > 0.05)),
        "AAE": np.degrees(np.arccos(cosine[valid].clip(-1, 1))).mean(),
        "EPE_occ": error[valid & hidden].mean(),
        "EPE_noc": error[valid & ~hidden].mean(),
    }
    result |= {f"{limit}px": np.mean(error[valid] > limit) for limit in (1, 3, 5)}
    for part, low, high in (("s0-10", 0, 10), ("s10-40", 10, 40), ("s40+", 40, math.inf)):
        result[part] = error[valid & (speed >= low) & (speed < high)].mean()
    return result


DEPTH = "AbsRel SqRel RMSE RMSElog log10 SILog delta1 delta2 delta3"
DISPARITY = "EPE D1 bad1 bad2 bad3 medRel of disparity"
FLOW = "EPE EPE_images 1px 3px 5px Fl AAE s0-10 s10-40 s40+ EPE_occ EPE_noc F1_occ"
CERTIFICATES = (
    Certificate("depth", DEPTH, "scikit-learn", compare_depth, 1e-5),
    Certificate("depth", DISPARITY, "KITTI 2015's and Middlebury's rules", compare_disparity),
    Certificate("flow", FLOW, "scikit-learn, KITTI 2015's and Sintel's rules", compare_flow, 1e-6),
)
