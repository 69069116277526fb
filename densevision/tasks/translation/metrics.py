"""How close predictions are to their targets, per image and as a set."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.frechet import frechet_distance
from densevision.metrics.image_quality import EXACT_IMAGES, ImageScores, psnr, ssim, to_comparable
from densevision.metrics.metric import Tables
from densevision.metrics.metric_info import IMAGE_QUALITY_INFO, MetricInfo
from densevision.results.image import Image

__all__ = ["METRIC_INFO", "ExtractFeatures", "TranslationMetric"]

METRIC_INFO = {
    **IMAGE_QUALITY_INFO,
    "L1": MetricInfo("mean absolute difference, white is 1", False),
    "FD": MetricInfo("Fréchet distance between the sets of images", False),
}
"""Metric -> what it measures."""

NAMES = ("L1", "PSNR", "SSIM")
ExtractFeatures = Callable[[np.ndarray], np.ndarray]


class TranslationMetric:
    """L1, PSNR and SSIM, each averaged over images, and the Frechet distance of all images; mergeable.

    Args:
        extract_features: (H, W, C) float32 image in [0, 1] to (D,) features; None omits the Frechet distance.
        feature_space: Description of the features, for the protocol.
    """

    def __init__(self, extract_features: ExtractFeatures | None = None, feature_space: str = ""):
        self.extract_features, self.feature_space = extract_features, feature_space
        self.values: dict[str, dict[str, float]] = {}
        self.features: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the network, which other processes have themselves."""
        return {**self.__dict__, "extract_features": None}

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        protocol = {
            "color": "all channels",
            "alpha": "left out",
            "levels": "predictions rounded to the levels of the ground truth",
            "L1": "mean absolute difference, white is 1",
            "peak": 255,
            "SSIM": "Gaussian window of 11, sigma 1.5, K 0.01 and 0.03, inside the image",
            "mean": "of the images' values; exact images have no finite PSNR and are counted instead",
        }
        return protocol | (
            {"FD": f"Frechet distance of features of {self.feature_space}"} if self.feature_space else {}
        )

    def update(self, prediction: Image, truth: Image, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image."""
        predicted, target = to_comparable(prediction, truth)
        difference = np.abs(predicted - target)
        known = difference[np.isfinite(difference)]
        l1 = float(known.mean()) / 255 if known.size else math.nan
        self.values[str(image_id)] = dict(zip(NAMES, (l1, psnr(predicted, target), ssim(predicted, target))))
        if self.extract_features is not None and known.size == difference.size:
            first, second = (self.extract_features((image / 255).astype(np.float32)) for image in (predicted, target))
            self.features[str(image_id)] = first, second

    def merge(self, other: TranslationMetric) -> None:
        """Adds the images of another accumulator."""
        self.values |= other.values
        self.features |= other.features

    def counts(self) -> dict[str, int]:
        """How many images were compared, were predicted exactly, and were too small for SSIM's window."""
        exact = sum(math.isinf(values["PSNR"]) for values in self.values.values())
        return {
            "images": sum(not math.isnan(values["L1"]) for values in self.values.values()),
            **({EXACT_IMAGES: exact} if exact else {}),
            "images without SSIM": sum(math.isnan(values["SSIM"]) for values in self.values.values()),
        }

    def compute(self) -> dict[str, float]:
        """The metrics by name; NaN where no image could be compared."""
        return self.per_image().compute() | ({"FD": self._compute_distance()} if self.feature_space else {})

    def per_image(self) -> ImageScores:
        """The values of each image; the Frechet distance, which compares sets, is left out."""
        return ImageScores(self.values, NAMES)

    def tables(self) -> Tables:
        """The values of each image."""
        return {"per image": {image_id: self.values[image_id] for image_id in sorted(self.values)}}

    def draw_plots(self, folder: Path) -> None:
        """Draws nothing: three values per image need no plot."""

    def _compute_distance(self) -> float:
        if len(self.features) < 2:
            return math.nan
        order = sorted(self.features)
        predictions, targets = (np.stack([self.features[image_id][side] for image_id in order]) for side in (0, 1))
        return frechet_distance(predictions, targets)
