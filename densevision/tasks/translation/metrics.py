"""How near answers are to their targets, one by one and as a set."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.frechet import frechet_distance
from densevision.metrics.image_quality import comparable, psnr, ssim
from densevision.metrics.per_image import Sums, blank_mean, means, split_mean
from densevision.results.image import Image

NAMES = ("L1", "PSNR", "SSIM")
Features = Callable[[np.ndarray], np.ndarray]


class TranslationMetric:
    """L1, PSNR and SSIM, each the mean of the images' own values, and the Frechet distance of all; mergeable.

    Args:
        features: (H, W, C) float32 image in [0, 1] to (D,) features; None leaves the Frechet distance out.
        space: What the features are, for the protocol.
    """

    def __init__(self, features: Features | None = None, space: str = ""):
        self.features, self.space = features, space
        self.values: dict[str, dict[str, float]] = {}
        self.seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """All but the network, which other processes have of their own."""
        return {**self.__dict__, "features": None}

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        told = {
            "color": "all channels",
            "alpha": "left out",
            "levels": "answers rounded to the levels of the truth",
            "L1": "mean absolute difference, white is 1",
            "peak": 255,
            "SSIM": "Gaussian window of 11, sigma 1.5, K 0.01 and 0.03, inside the image",
            "mean": "of the images' values",
        }
        return told | ({"FD": f"Frechet distance of features of {self.space}"} if self.space else {})

    def update(self, result: Image, truth: Image, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        answer, wanted = comparable(result, truth)
        difference = np.abs(answer - wanted)
        known = difference[np.isfinite(difference)]
        numbers = (float(known.mean()) / 255 if known.size else math.nan, psnr(answer, wanted), ssim(answer, wanted))
        self.values[str(id)] = dict(zip(NAMES, numbers))
        if self.features is not None and known.size == difference.size:
            mine, theirs = (self.features((image / 255).astype(np.float32)) for image in (answer, wanted))
            self.seen[str(id)] = mine, theirs

    def merge(self, other: TranslationMetric) -> None:
        """Takes what another process gathered."""
        self.values |= other.values
        self.seen |= other.seen

    def counts(self) -> dict[str, int]:
        """How many images were compared, and how many were too small for SSIM's window."""
        return {
            "images": sum(not math.isnan(numbers["L1"]) for numbers in self.values.values()),
            "images without SSIM": sum(math.isnan(numbers["SSIM"]) for numbers in self.values.values()),
        }

    def compute(self) -> dict[str, float]:
        """The numbers by name; NaN where no image could be compared."""
        return self.per_image().compute() | ({"FD": self._distance()} if self.space else {})

    def per_image(self) -> Sums:
        """The values of each image; the Frechet distance is one of sets and left out."""
        rows = {id: split_mean(numbers) for id, numbers in self.values.items()}
        return Sums(rows, blank_mean(NAMES), lambda sums: means(sums, NAMES))

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The numbers of each image."""
        return {"per image": {id: self.values[id] for id in sorted(self.values)}}

    def plots(self, folder: Path) -> None:
        """Numbers of each image need no plot; the sheet of answers shows what they hide."""

    def _distance(self) -> float:
        if len(self.seen) < 2:
            return math.nan
        answers, ground_truths = (np.stack([self.seen[id][side] for id in sorted(self.seen)]) for side in (0, 1))
        return frechet_distance(answers, ground_truths)
