"""Metrics of depth and disparity; deviations from the default protocol are part of their names.

Depth metrics are computed per image and averaged over the images, as usual; disparity metrics over all pixels. Sums are
kept per image and added up exactly, so that neither order nor shards change a number.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from densevision.errors import DataError
from densevision.metrics.metric_info import MetricInfo
from densevision.metrics.per_image import Columns, ImageSums, blank_mean, means, ratio, split_mean
from densevision.results.depth_map import DepthMap
from densevision.tasks.depth.align import DEFAULT_FAR, Alignment, Bounds, make_comparable

__all__ = ["DepthMetric", "Protocol", "disparity_sums"]

METRIC_INFO = {
    "delta1": MetricInfo("share of pixels within a factor of 1.25"),
    "delta2": MetricInfo("share of pixels within 1.25²"),
    "delta3": MetricInfo("share of pixels within 1.25³"),
    "AbsRel": MetricInfo("mean relative error of depth", False),
    "SqRel": MetricInfo("mean squared error over depth [m]", False),
    "RMSE": MetricInfo("root mean squared error [m]", False),
    "RMSElog": MetricInfo("root mean squared error of log depth", False),
    "log10": MetricInfo("mean difference of log10 depth", False),
    "SILog": MetricInfo("100 x scale-invariant log error", False),
    "EPE": MetricInfo("mean error of disparity [px]", False),
    "D1": MetricInfo("share of disparities off by > 3 px and > 5 %", False),
    "bad1": MetricInfo("share of disparities off by > 1 px", False),
    "bad2": MetricInfo("share of disparities off by > 2 px", False),
    "bad3": MetricInfo("share of disparities off by > 3 px", False),
    "medRel": MetricInfo("median relative error of disparity", False),
}
"""Metric -> what it measures."""

DEPTH = ("AbsRel", "SqRel", "RMSE", "RMSElog", "log10", "SILog", "delta1", "delta2", "delta3")
DISPARITY = ("EPE", "D1", "bad1", "bad2", "bad3")
CROPS = {
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
}
"""Name -> first and last row, first and last column, as fractions of the image (Eigen 2014, Garg 2016)."""
BINS = np.append(np.outer(2.0 ** np.arange(-2, 8), 1 + np.arange(4) / 4), 256.0)
"""Depths in meters, or disparities in pixels, by which the plot groups errors; the table joins four to an octave."""
OCTAVES = [*range(9, len(BINS), 4)]
"""Where the rows of the table begin: from 1, 2, 4, ... on."""
CHUNK = 1 << 15
"""Pixels per block of the sums: as many as fit into the cache of a core."""
LANES = 4
"""Copies of each bin, used in turn: neighboring pixels share a bin, and repeated additions to one sum stall."""
MAX_WORST = 20
"""Images in the table of the worst."""


@dataclass(frozen=True)
class Protocol:
    """How predictions and ground truth are compared; see `config.EvaluationConfig`."""

    align: Alignment = "none"
    crop: Literal["none", "eigen", "garg", "nyu"] = "none"
    min_depth: float = 1e-3
    max_depth: float | None = None
    bounds: Bounds = "inclusive"

    @property
    def suffix(self) -> str:
        """Suffix of the metrics' names: the deviations from the default protocol.

        >>> Protocol("median", "garg", 1e-3, 80.0).suffix
        '/median/garg/80m'
        """
        parts: list[str] = [part for part in (self.align, self.crop) if part != "none"]
        parts += [f"{self.max_depth:g}m"] if self.max_depth is not None else []
        parts += [f"from{self.min_depth:g}m"] if self.min_depth != Protocol().min_depth else []
        parts += [self.bounds] if self.bounds != "inclusive" else []
        return "".join(f"/{part}" for part in parts)

    def window(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns that are evaluated in an image of (height, width)."""
        if self.crop == "none":
            return slice(None), slice(None)
        (top, bottom, left, right), (height, width) = CROPS[self.crop], size
        # KITTI's borders are truncated, as in the authors' code; NYU's are whole pixels of 480 x 640.
        to_pixels = round if self.crop == "nyu" else int
        rows = slice(to_pixels(top * height), to_pixels(bottom * height))
        return rows, slice(to_pixels(left * width), to_pixels(right * width))


class DepthMetric:
    """An accumulator of one evaluation.

    Args:
        protocol: How predictions and ground truth are compared.
    """

    def __init__(self, protocol: Protocol | None = None):
        self.rules = protocol or Protocol()
        self.images: dict[str, dict[str, Any]] = {}

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that is needed to compare the numbers with those of another tool."""
        far = self.rules.max_depth or DEFAULT_FAR
        max_depth = "unlimited" if self.rules.max_depth is None else self.rules.max_depth
        return {
            **self._kinds(),
            "align": self.rules.align,
            "crop": self.rules.crop,
            "range_m": [self.rules.min_depth, max_depth],
            "bounds": f"{self.rules.bounds}: ground truth of exactly the ends of the range "
            f"{'counts' if self.rules.bounds == 'inclusive' else 'is ignored, as by Eigen and monodepth'}",
            "missing": f"pixels without a prediction count as {far:g} m, or disparity 0",
            "average": "depth: mean over the images' means; disparity: over all valid pixels of all images",
            "SILog": "100 x root of the variance of log differences (KITTI)",
            "delta": "share of pixels with max(prediction/truth, truth/prediction) below 1.25, 1.25^2, 1.25^3",
            "D1": "share of pixels with an error above 3 px and above 5 % of the true disparity",
            "bad": "share of pixels with an error above 1, 2, 3 px",
            "medRel": "mean over the images of the median relative disparity error",
        }

    def update(self, prediction: DepthMap, truth: DepthMap, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image.

        Raises:
            DataError: Their sizes differ.
            UsageError: Their kinds cannot be compared without alignment.
        """
        if prediction.size != truth.size:
            problem = f"the prediction's size differs from the ground truth's, {truth.size}"
            raise DataError(problem, file=str(image_id), value=prediction.size, hint="Predict at the image's size.")
        rules, window = self.rules, self.rules.window(truth.size)
        pair = make_comparable(prediction, truth, window, rules.align, rules.min_depth, rules.max_depth, rules.bounds)
        numbers: dict[str, Any] = {"pixels": float(pair.truth.size), "missing": float(pair.missing)}
        numbers |= {"unknown": float((~truth.valid).sum())}
        numbers |= {"prediction": _describe_kind(prediction), "truth": _describe_kind(truth)}
        if pair.truth.size:
            sums, bins = _depth_sums(pair.prediction, pair.truth, pair.limits, not pair.in_meters)
            numbers |= _errors(sums, len(pair.truth), pair.in_meters)
            if pair.in_meters or truth.kind == "disparity":
                numbers["m" if pair.in_meters else "px"] = bins
        if pair.disparities is not None:
            numbers |= disparity_sums(*pair.disparities)
        self.images[str(image_id)] = numbers

    def merge(self, other: DepthMetric) -> None:
        """Adds the images of another accumulator."""
        self.images.update(other.images)

    def per_image(self) -> ImageSums:
        """The statistics of each image."""
        averaged = (*DEPTH, "medRel")
        disparity = any("disparities" in numbers for numbers in self.images.values())
        rows = {
            image_id: split_mean({name: numbers[name] for name in averaged if name in numbers})
            | {name: numbers[name] for name in ("disparities", *DISPARITY) if name in numbers}
            for image_id, numbers in self.images.items()
        }

        def formulas(sums: Columns) -> Columns:
            numbers = means(sums, DEPTH)
            if disparity:
                numbers |= {name: ratio(sums[name], sums["disparities"]) for name in DISPARITY}
                numbers |= means(sums, ["medRel"])
            return {f"{name}{self.rules.suffix}": value for name, value in numbers.items()}

        blank = blank_mean(averaged) | dict.fromkeys(("disparities", *DISPARITY), 0.0)
        return ImageSums(rows, blank, formulas)

    def counts(self) -> dict[str, int]:
        """Evaluated pixels, those of them without prediction, pixels of unknown depth, and images of only those."""
        empty = sum(not numbers["pixels"] for numbers in self.images.values())
        return {
            "pixels": int(self._total("pixels")),
            "pixels without prediction": int(self._total("missing")),
            "pixels of unknown depth": int(self._total("unknown")),
            "images without known pixels": empty,
        }

    def compute(self) -> dict[str, float]:
        """Depth metrics, and disparity metrics if the ground truth is one; NaN where no pixel defines them.

        SqRel and RMSE are NaN if the ground truth is a disparity without calibration: they need meters.
        """
        return self.per_image().compute()

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Errors by distance, over all pixels of all images; and the worst images."""
        tables: dict[str, dict[str, dict[str, float]]] = {}
        for unit, title in (("m", "by distance [m]"), ("px", "by disparity [px]")):
            rows = self._by_distance(unit)
            tables |= {title: rows} if rows else {}
        images = {image_id: numbers for image_id, numbers in sorted(self.images.items()) if numbers["pixels"]}
        worst = sorted(images, key=lambda image_id: -images[image_id]["AbsRel"])[:MAX_WORST]
        columns = ("AbsRel", "RMSE", "delta1")
        rows = {
            image_id: {f"{name}{self.rules.suffix}": images[image_id][name] for name in columns} for image_id in worst
        }
        return {**tables, "worst images": rows}

    def draw_plots(self, folder: Path) -> None:
        """Plots the relative error over the distance."""
        from densevision.draw.plots import plot_training_curves

        for unit, name in (("m", "distance"), ("px", "disparity")):
            pixels, relative = self._bins(unit)[:2, 1:-1]
            is_used = pixels > 0
            centers = np.sqrt(BINS[1:] * BINS[:-1])[is_used]
            table = {
                f"{name} [{unit}]": centers.tolist(),
                f"AbsRel{self.rules.suffix}": (relative[is_used] / pixels[is_used]).tolist(),
            }
            if is_used.any():
                plot_training_curves(folder / f"by_{name}.png", table, x=f"{name} [{unit}]")

    def _kinds(self) -> dict[str, str]:
        """What was compared with what."""
        sides = ("prediction", "truth")
        kinds = {side: sorted({numbers[side] for numbers in self.images.values()}) for side in sides}
        return {side: ", ".join(names) for side, names in kinds.items() if names}

    def _bins(self, unit: str) -> np.ndarray:
        """(4, 42) pixels, and sums of relative errors, of squares and of pixels within delta1, by distance."""
        parts = [numbers[unit] for _, numbers in sorted(self.images.items()) if unit in numbers]
        return np.sum(parts, 0) if parts else np.zeros((4, len(BINS) + 1))

    def _by_distance(self, unit: str) -> dict[str, dict[str, float]]:
        rows = {}
        ends = [0, *OCTAVES, len(BINS) + 1]
        for start, end in itertools.pairwise(ends):
            pixels, relative, squares, near = self._bins(unit)[:, start:end].sum(1).tolist()
            low, high = (0 if not start else BINS[start - 1]), (BINS[end - 1] if end <= len(BINS) else math.inf)
            name = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"
            if pixels:
                numbers = {"AbsRel": relative / pixels, "RMSE": math.sqrt(squares / pixels), "delta1": near / pixels}
                rows[name] = {f"{key}{self.rules.suffix}": value for key, value in numbers.items()} | {"pixels": pixels}
                if unit == "px":
                    del rows[name][f"RMSE{self.rules.suffix}"]
        return rows

    def _total(self, name: str) -> float:
        return math.fsum(numbers.get(name, 0.0) for numbers in self.images.values())


def _describe_kind(record: DepthMap) -> str:
    return f"{record.kind} in {record.unit}" if record.unit else f"{record.kind} without unit"


def _errors(sums: np.ndarray, count: int, in_meters: bool) -> dict[str, float]:
    """Errors of one image from the sums over `count` pixels, see `_depth_sums`; SqRel and RMSE are NaN without a unit.

    Source: Eigen et al., Depth Map Prediction from a Single Image, NeurIPS 2014, section 4.2; SILog as in KITTI's
    depth benchmark.
    """
    relative, weighted, squares, log, log_squares, log_size, *near = (sums / count).tolist()
    errors = {
        "AbsRel": relative,
        "SqRel": weighted if in_meters else math.nan,
        "RMSE": math.sqrt(squares) if in_meters else math.nan,
        "RMSElog": math.sqrt(log_squares),
        "log10": log_size / math.log(10),
        "SILog": 100 * math.sqrt(max(0.0, log_squares - log * log)),
    }
    return errors | {f"delta{power}": fraction for power, fraction in enumerate(near, 1)}


def _depth_sums(
    prediction: np.ndarray, truth: np.ndarray, limits: tuple[float, float] = (0.0, np.inf), inverse: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over pixels in float64, in blocks that fit into the cache of a core.

    Args:
        prediction: (N,) floats.
        truth: (N,) positive floats.
        limits: Range that predictions are clipped to.
        inverse: Group pixels by the reciprocal of the ground truth.

    Returns:
        (9,) sums of |d| / t, d^2 / t, d^2, log q, log^2 q, |log q| and of pixels within each delta, where d = p - t and
        q = p / t; and (4, 42) the columns of `DepthMetric._bins`.
    """
    sums, bins = np.zeros(9), np.zeros((4, LANES, len(BINS) + 1))
    count = bins[0].size
    lanes = np.arange(min(CHUNK, len(truth)), dtype=np.int32) % LANES * bins.shape[2]
    for start in range(0, len(truth), CHUNK):
        a, t = (numbers[start : start + CHUNK].astype(np.float64) for numbers in (prediction, truth))
        np.clip(a, *limits, out=a)
        q, size = a / t, a - t
        np.abs(size, out=size)
        relative, log = size / t, np.log(q)
        near, *wider = ((1.25**-power < q) & (q < 1.25**power) for power in (1, 2, 3))
        # Not log @ log: BLAS would start all its threads, which takes longer than the sum.
        sums[1] += (relative * size).sum()
        sums[3:6] += log.sum(), (log * log).sum(), np.abs(log, out=log).sum()
        sums[7:] += [np.count_nonzero(within) for within in wider]
        place = _find_bins(1 / t if inverse else truth[start : start + CHUNK]) + lanes[: len(t)]
        far, both = np.bincount(place + np.int32(count) * near, minlength=2 * count).reshape(2, *bins.shape[1:])
        bins[0] += far + both
        bins[1] += np.bincount(place, relative, count).reshape(bins.shape[1:])
        bins[2] += np.bincount(place, size * size, count).reshape(bins.shape[1:])
        bins[3] += both
    sums[[0, 2, 6]] = bins[1:].sum((1, 2))
    return sums, bins.sum(1)


def _find_bins(numbers: np.ndarray) -> np.ndarray:
    """(N,) int32: the bin of each positive number.

    The exponent of a float and the first two bits of its fraction count quarters of octaves.
    """

    def quarters(floats: np.ndarray) -> np.ndarray:
        return floats.view(np.int32) >> 21

    return np.clip(quarters(numbers.astype(np.float32, copy=False)) - quarters(np.float32(BINS[:1])) + 1, 0, len(BINS))


def disparity_sums(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Sums over the N pixels of one image, from which EPE, D1 and bad follow; both (N,) in pixels."""
    error = np.abs(prediction - truth)
    sums = {
        "disparities": float(truth.size),
        "EPE": float(error.sum()),
        "D1": float(((error > 3) & (error > 0.05 * truth)).sum()),
    }
    sums |= {f"bad{limit}": float((error > limit).sum()) for limit in (1, 2, 3)}
    return sums | {"medRel": float(np.median(error / truth)) if truth.size else math.nan}
