"""Metrics of optical flow: end-point and angular error, outliers, by speed and visibility; and of occlusion.

Errors are averaged over all pixels whose ground truth is valid. Sums are kept per image and added up exactly, so that
neither the order of the images nor shards change a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densevision.errors import DataError
from densevision.metrics.metric_info import MetricInfo
from densevision.metrics.per_image import Columns, ImageSums, blank_mean, means, ratio, split_mean
from densevision.results import FlowField

__all__ = ["FlowMetric", "angular_error", "compute_lengths", "end_point_error"]

METRIC_INFO = {
    "EPE": MetricInfo("mean end-point error [px]", False),
    "EPE_images": MetricInfo("mean over images of their EPE [px]", False),
    "1px": MetricInfo("share of pixels off by > 1 px", False),
    "3px": MetricInfo("share of pixels off by > 3 px", False),
    "5px": MetricInfo("share of pixels off by > 5 px", False),
    "Fl": MetricInfo("share of pixels off by > 3 px and > 5 %", False),
    "AAE": MetricInfo("mean angular error [°]", False),
    "s0-10": MetricInfo("EPE where motion is below 10 px", False),
    "s10-40": MetricInfo("EPE where motion is 10 to 40 px", False),
    "s40+": MetricInfo("EPE where motion is 40 px and more", False),
    "EPE_occ": MetricInfo("EPE of occluded pixels", False),
    "EPE_noc": MetricInfo("EPE of pixels visible in both images", False),
    "F1_occ": MetricInfo("F1 of occluded pixels"),
}
"""Metric -> what it measures."""

OUTLIER_PIXELS, OUTLIER_FRACTION = 3.0, 0.05
"""KITTI's outliers have an error above 3 pixels and above 5 % of the true motion."""
SPEEDS = {"s0-10": (0.0, 10.0), "s10-40": (10.0, 40.0), "s40+": (40.0, math.inf)}
"""Sintel's ranges of the true speed in pixels per frame, the upper end excluded."""
VISIBILITIES = ("EPE_noc", "EPE_occ")
"""Pixels that are visible in both images, and occluded ones."""
SUMS = (
    *(
        "pixels",
        "missing",
        "error",
        "angle",
        "Fl",
        "1px",
        "3px",
        "5px",
        "occlusion_known",
        "hits",
        "predicted",
        "occluded",
    ),
    *(f"{prefix}{part}" for part in (*SPEEDS, *VISIBILITIES) for prefix in ("", "Fl ", "pixels ")),
)
"""Sums over the pixels of each pair."""
THRESHOLDS = np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50])
"""Error thresholds of the plot, in pixels."""
CHUNK = 1 << 14
"""Pixels per block of the angular error: as many as fit into the cache of a core."""
MAX_WORST = 20
"""Images in the table of the worst."""


class FlowMetric:
    """An accumulator of one evaluation."""

    protocol: ClassVar[dict[str, Any]] = {
        "average": "over all valid pixels of all images; EPE_images over the images' means",
        "1px 3px 5px": "share of pixels with an end-point error above",
        "Fl": "share of pixels with an end-point error above 3 px and above 5 % of the true motion",
        "AAE": "mean angle in degrees between (u, v, 1) and the true (u, v, 1)",
        "speeds": "true motion in pixels: s0-10, s10-40, s40+",
        "F1_occ": "of occluded pixels, probability at least 0.5",
    }

    def __init__(self) -> None:
        self.images: dict[str, dict[str, float]] = {}
        self.above = np.zeros(len(THRESHOLDS), np.int64)

    def update(self, prediction: FlowField, truth: FlowField, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one pair.

        Raises:
            DataError: Their sizes differ.
        """
        if prediction.flow.shape != truth.flow.shape:
            problem = f"the prediction's size differs from the ground truth's, {truth.size}"
            raise DataError(problem, file=str(image_id), value=prediction.size, hint="Predict at the image's size.")
        known = np.flatnonzero(truth.valid)
        flow, target = (field.flow.reshape(2, -1).take(known, 1).astype(np.float64) for field in (prediction, truth))
        error, speed = end_point_error(flow, target), compute_lengths(target)
        outliers = (error > OUTLIER_PIXELS) & (error > OUTLIER_FRACTION * speed)
        self.images[str(image_id)] = {
            "missing": float((truth.valid & ~prediction.valid).sum()),
            "angle": float(angular_error(flow, target).sum()),
            **_flow_sums(error, speed, outliers),
            **_visibility_sums(error, outliers, truth),
            **_occlusion_sums(prediction, truth),
        }
        self.above += np.array([np.count_nonzero(error > limit) for limit in THRESHOLDS])

    def merge(self, other: FlowMetric) -> None:
        """Adds the images of another accumulator."""
        self.images.update(other.images)
        self.above = self.above + other.above

    def counts(self) -> dict[str, int]:
        """Pixels with ground truth, those of them without prediction, and those whose occlusion is known."""
        names = {
            "pixels": "pixels",
            "pixels without prediction": "missing",
            "pixels of known occlusion": "occlusion_known",
        }
        return {name: int(self._total(key)) for name, key in names.items()}

    def compute(self) -> dict[str, float]:
        """EPE EPE_images 1px 3px 5px Fl AAE, EPE by speed and visibility, F1_occ; NaN where no pixel defines them.

        Pixels without a prediction count as motionless.
        """
        return self.per_image().compute()

    def per_image(self) -> ImageSums:
        """The statistics of each pair."""
        rows = {image_id: {**sums, **split_mean(_image_mean(sums))} for image_id, sums in self.images.items()}
        return ImageSums(rows, {**dict.fromkeys(SUMS, 0.0), **blank_mean(["EPE_images"])}, _compute_metrics)

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Errors by speed and by visibility, and the worst pairs."""
        tables = {"by speed [px]": self._rows(SPEEDS), "by visibility": self._rows(VISIBILITIES)}
        images = sorted(self.images.items())
        rows = {image_id: _image_row(sums) for image_id, sums in images if sums["pixels"]}
        worst = sorted(rows, key=lambda image_id: -rows[image_id]["EPE"])[:MAX_WORST]
        return {
            **{title: table for title, table in tables.items() if table},
            "worst images": {image_id: rows[image_id] for image_id in worst},
        }

    def _rows(self, parts: Iterable[str]) -> dict[str, dict[str, float]]:
        """The metrics of parts of the pixels that are not empty."""
        rows = {}
        for part in parts:
            error, outliers, pixels = (self._total(f"{name}{part}") for name in ("", "Fl ", "pixels "))
            if pixels:
                rows[part.removeprefix("EPE_")] = {"EPE": error / pixels, "Fl": outliers / pixels, "pixels": pixels}
        return rows

    def draw_plots(self, folder: Path) -> None:
        """Plots the share of pixels whose error is above a threshold."""
        from densevision.draw.plots import plot_training_curves

        pixels = max(1.0, self._total("pixels"))
        table = {"error above [px]": THRESHOLDS.tolist(), "share of pixels": (self.above / pixels).tolist()}
        plot_training_curves(folder / "errors.png", table, x="error above [px]")

    def _total(self, name: str) -> float:
        return math.fsum(sums.get(name, 0.0) for sums in self.images.values())


def compute_lengths(vectors: np.ndarray) -> np.ndarray:
    """Lengths of vectors (2, ...): (...) float64."""
    across, down = (axis.astype(np.float64, copy=False) for axis in vectors)
    return np.sqrt(across * across + down * down)


def end_point_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Length of the difference of two flows (2, ...), in pixels: (...) float64.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011, section 4.1.
    """
    return compute_lengths(np.subtract(flow, truth, dtype=np.float64))


def angular_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle between (u, v, 1) and the true (u, v, 1), for flows (2, N): (N,) float64 degrees.

    Source: Barron, Fleet and Beauchemin, Performance of Optical Flow Techniques, IJCV 1994, section 3.3. Computed by
    the cross product, which is exact for small angles where the arc cosine is not.
    """
    angles = np.empty(flow.shape[1])
    for start in range(0, len(angles), CHUNK):
        part = slice(start, start + CHUNK)
        (u, v), (s, t) = (motion[:, part].astype(np.float64, copy=False) for motion in (flow, truth))
        turn, right, down = u * t - v * s, u - s, v - t
        sine, cosine = np.sqrt(right * right + down * down + turn * turn), u * s + v * t + 1
        with np.errstate(divide="ignore"):
            angle = np.arctan(sine / cosine)  # several times faster than with two arguments
        angles[part] = np.where(cosine < 0, angle + math.pi, angle)
    return np.degrees(angles)


def _flow_sums(error: np.ndarray, speed: np.ndarray, outliers: np.ndarray) -> dict[str, float]:
    sums = {"pixels": float(error.size), "error": float(error.sum()), "Fl": float(np.count_nonzero(outliers))}
    sums |= {f"{limit}px": float(np.count_nonzero(error > limit)) for limit in (1, 3, 5)}
    within = [(speed >= low) & (speed < high) for low, high in SPEEDS.values()]
    return sums | _parts(SPEEDS, within, error, outliers)


def _visibility_sums(error: np.ndarray, outliers: np.ndarray, truth: FlowField) -> dict[str, float]:
    if truth.occluded is None:
        return {}
    occluded = truth.occluded[truth.valid]
    return _parts(VISIBILITIES, [~occluded, occluded], error, outliers)


def _parts(
    names: Iterable[str], within: Iterable[np.ndarray], error: np.ndarray, outliers: np.ndarray
) -> dict[str, float]:
    """Sums by part: errors under the part's name, outliers and pixels; `within` has a (N,) mask for each name."""
    sums = {}
    for name, part in zip(names, within):
        sums[name] = float(error.sum(where=part))
        sums[f"Fl {name}"] = float(np.count_nonzero(outliers & part))
        sums[f"pixels {name}"] = float(np.count_nonzero(part))
    return sums


def _occlusion_sums(prediction: FlowField, truth: FlowField) -> dict[str, float]:
    if truth.occluded is None or prediction.occluded is None:
        return dict.fromkeys(("occlusion_known", "hits", "predicted", "occluded"), 0.0)
    predicted, occluded = prediction.occluded & truth.valid, truth.occluded & truth.valid
    masks = {
        "occlusion_known": truth.valid,
        "hits": predicted & occluded,
        "predicted": predicted,
        "occluded": occluded,
    }
    return {name: float(mask.sum()) for name, mask in masks.items()}


def _image_row(sums: dict[str, float]) -> dict[str, float]:
    return {"EPE": sums["error"] / sums["pixels"], "Fl": sums["Fl"] / sums["pixels"], "pixels": sums["pixels"]}


def _image_mean(sums: dict[str, float]) -> dict[str, float]:
    return {"EPE_images": sums["error"] / sums["pixels"] if sums["pixels"] else math.nan}


def _compute_metrics(sums: Columns) -> Columns:
    pixels = sums["pixels"]
    numbers = {"EPE": ratio(sums["error"], pixels), **means(sums, ["EPE_images"])}
    numbers |= {name: ratio(sums[name], pixels) for name in ("1px", "3px", "5px", "Fl")}
    numbers["AAE"] = ratio(sums["angle"], pixels)
    numbers |= {name: ratio(sums[name], sums[f"pixels {name}"]) for name in (*SPEEDS, "EPE_occ", "EPE_noc")}
    return {**numbers, "F1_occ": ratio(2 * sums["hits"], sums["predicted"] + sums["occluded"])}
