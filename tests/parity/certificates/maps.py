"""Depth and flow beside scikit-learn and the definitions of their benchmarks, written out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from sklearn import metrics

from certificates.certificate import Case, Certificate, side_by_side
from densevision.results import DepthMap, FlowField
from densevision.tasks.depth.metrics import DepthMetric, Protocol
from densevision.tasks.flow.metrics import FlowMetric

SIZE = (24, 40)


def depths(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answer, truth, and where the truth is known."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 120, SIZE).astype(np.float32)
    return (truth * np.exp(rng.normal(0, 0.3, SIZE))).astype(np.float32), truth, rng.random(SIZE) < 0.6


def formulas(answer: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The nine numbers of (N,) float64."""
    log = np.log(answer) - np.log(truth)
    found = {
        "AbsRel": metrics.mean_absolute_percentage_error(truth, answer),
        "SqRel": float(np.mean([(a - t) ** 2 / t for a, t in zip(answer, truth)])),
        "RMSE": math.sqrt(metrics.mean_squared_error(truth, answer)),
        "RMSElog": math.sqrt(metrics.mean_squared_error(np.log(truth), np.log(answer))),
        "log10": metrics.mean_absolute_error(np.log10(truth), np.log10(answer)),
        "SILog": 100 * math.sqrt((log**2).mean() - log.mean() ** 2),
    }
    factor = np.maximum(answer / truth, truth / answer)
    return found | {f"delta{power}": float((factor < 1.25**power).mean()) for power in (1, 2, 3)}


def judged(result: DepthMap, truth: DepthMap, **rules) -> dict[str, float]:
    """Our numbers, under the plain names."""
    metric = DepthMetric(Protocol(**rules))
    metric.update(result, truth, 0)
    return {name.partition("/")[0]: value for name, value in metric.compute().items()}


def depth() -> Iterator[Case]:
    """Caps, crops and alignment."""
    for seed in range(4):
        answer, truth, valid = depths(seed)
        told = DepthMap.of(truth, valid)
        a, t = (side.astype(np.float64) for side in (answer, truth))
        yield from side_by_side("unknown pixels", judged(DepthMap.of(answer), told), formulas(a[valid], t[valid]))
        capped = valid & (truth >= 1e-3) & (truth <= 80)
        wanted = formulas(a[capped].clip(1e-3, 80), t[capped])
        yield from side_by_side("cap at 80 m", judged(DepthMap.of(answer), told, farthest=80.0), wanted)
        scaled = a[valid] * np.median(t[valid]) / np.median(a[valid])
        relative = DepthMap.of(answer / 7, kind="relative", unit="")
        wanted = formulas(scaled, t[valid])
        yield from side_by_side("aligned by the median", judged(relative, told, align="median"), wanted)
        yield from side_by_side("aligned by least squares", *_least_squares(a, t, valid))
        yield from side_by_side("crops of Eigen, Garg and NYU", *_crops(seed))


def _least_squares(a: np.ndarray, t: np.ndarray, valid: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    disparity = (3 / a + 0.01).astype(np.float32)
    columns = np.stack([disparity[valid].astype(np.float64), np.ones(valid.sum())], 1)
    (factor, offset), *_ = np.linalg.lstsq(columns, 1 / t[valid], rcond=None)
    answer = (1 / np.maximum(factor * disparity[valid].astype(np.float64) + offset, 1e-300)).clip(1e-3, 1e4)
    given = DepthMap.of(disparity, kind="disparity", unit="")
    return judged(given, DepthMap.of(t.astype(np.float32), valid), align="lstsq"), formulas(answer, t[valid])


def _crops(seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """One of the published crops, as their authors' code writes it."""
    rng = np.random.default_rng(seed)
    height, width = (480, 640) if seed % 3 == 2 else (375, 1242)
    truth = rng.uniform(1, 70, (height, width)).astype(np.float32)
    answer = (truth * np.exp(rng.normal(0, 0.2, truth.shape))).astype(np.float32)
    windows = {
        "garg": np.array([0.40810811 * height, 0.99189189 * height, 0.03594771 * width, 0.96405229 * width]),
        "eigen": np.array([0.3324324 * height, 0.91351351 * height, 0.0359477 * width, 0.96405229 * width]),
        "nyu": np.array([45, 471, 41, 601]),
    }
    name = ("garg", "eigen", "nyu")[seed % 3]
    top, bottom, left, right = windows[name].astype(np.int32)
    inside = np.s_[top:bottom, left:right]
    wanted = formulas(answer[inside].ravel().astype(np.float64), truth[inside].ravel().astype(np.float64))
    return judged(DepthMap.of(answer), DepthMap.of(truth), crop=name), wanted


def disparity() -> Iterator[Case]:
    """KITTI's D1 and Middlebury's bad pixels, at and beside their limits."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.choice([20.0, 60, 100, 200], SIZE).astype(np.float32)
        error = rng.choice([0, 1, 2, 3, 3.001, 5, 5.001, 10, 10.001], SIZE).astype(np.float32)
        valid, answer = rng.random(SIZE) < 0.7, truth + error
        kind = {"kind": "disparity", "unit": "px"}
        off = np.abs(answer[valid].astype(np.float64) - truth[valid])
        wanted = {"EPE": off.mean(), "D1": np.mean((off > 3) & (off / truth[valid] > 0.05))}
        wanted |= {f"bad{limit}": np.mean(off > limit) for limit in (1, 2, 3)}
        found = judged(DepthMap.of(answer, **kind), DepthMap.of(truth, valid, **kind))
        yield from side_by_side("errors at the limits, unknown pixels", found, wanted)


def flow() -> Iterator[Case]:
    """KITTI's rule at its limits, unknown and left-open pixels, speeds, visibility and angles."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = (rng.normal(0, 1, (2, *SIZE)) * rng.choice([1, 15, 60], SIZE)).astype(np.float32)
        length = rng.choice([0, 1, 3, 3.001, 5, 8], SIZE)
        angle = rng.uniform(0, 2 * math.pi, SIZE)
        answer = (truth + length * np.stack([np.cos(angle), np.sin(angle)])).astype(np.float32)
        valid, hidden = rng.random(SIZE) < 0.7, rng.random(SIZE) < 0.2
        open_ = rng.random(SIZE) < 0.1 * (seed % 2)
        metric = FlowMetric()
        said = FlowField.of(answer, ~open_, rng.random(SIZE))
        metric.update(said, FlowField.of(truth, valid, hidden), 0)
        still = np.where(open_, 0, answer)
        name = "pixels that the answer leaves open" if seed % 2 else "unknown pixels, errors at 3 px and 5 %"
        wanted = _flow_formulas(still.astype(np.float64), truth.astype(np.float64), valid, hidden)
        wanted["F1_occ"] = metrics.f1_score(hidden[valid], said.hidden[valid])
        yield from side_by_side(name, metric.compute(), wanted)


def _flow_formulas(u: np.ndarray, t: np.ndarray, valid: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    error = np.sqrt(((u - t) ** 2).sum(0))
    speed = np.sqrt((t**2).sum(0))
    cosine = ((u * t).sum(0) + 1) / np.sqrt(((u**2).sum(0) + 1) * ((t**2).sum(0) + 1))
    found = {
        "EPE": error[valid].mean(),
        "Fl": np.mean((error[valid] > 3) & (error[valid] / np.maximum(speed[valid], 1e-12) > 0.05)),
        "AAE": np.degrees(np.arccos(cosine[valid].clip(-1, 1))).mean(),
        "EPE_occ": error[valid & hidden].mean(),
        "EPE_noc": error[valid & ~hidden].mean(),
    }
    found |= {f"{limit}px": np.mean(error[valid] > limit) for limit in (1, 3, 5)}
    for part, low, high in (("s0-10", 0, 10), ("s10-40", 10, 40), ("s40+", 40, math.inf)):
        found[part] = error[valid & (speed >= low) & (speed < high)].mean()
    return found


FLOW = "EPE 1px 3px 5px Fl AAE s0-10 s10-40 s40+ EPE_occ EPE_noc F1_occ"
CERTIFICATES = (
    Certificate("depth", "AbsRel SqRel RMSE RMSElog log10 SILog delta1 delta2 delta3", "scikit-learn", depth, 1e-5),
    Certificate("depth", "EPE D1 bad1 bad2 bad3 of disparity", "KITTI 2015's and Middlebury's rules", disparity),
    Certificate("flow", FLOW, "scikit-learn, KITTI 2015's and Sintel's rules", flow, 1e-6),
)
