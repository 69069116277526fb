"""Confidence intervals of metrics and of their differences, by the bootstrap over images.

Source: Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 1979; percentile intervals. A
paired comparison resamples the same images for both sides, so that the difficulty of the images cancels out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from densevision.errors import DataError
from densevision.metrics.per_image import Columns, PerImageStats

__all__ = ["DRAWS", "LEVEL", "Difference", "ImageSubset", "Interval", "compare_paired", "compute_intervals"]

DRAWS = 1000
LEVEL = 0.95
MIN_DEFINED_SHARE = 0.8
"""Share of the draws in which a metric must be defined to get an interval. A metric that a single image defines is
in at most three quarters of them, and its interval would have no width."""


class Interval(NamedTuple):
    """A confidence interval; NaN where the metric is undefined in too many draws."""

    low: float
    high: float


class Difference(NamedTuple):
    """The change of one metric between two predictions for the same images.

    Attributes:
        baseline: Value of the first side.
        candidate: Value of the second side.
        change: candidate - baseline.
        interval: Confidence interval of the change.
        positive_share: Share of the draws in which the change is positive; ties count half.
    """

    baseline: float
    candidate: float
    change: float
    interval: Interval
    positive_share: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval.low > 0 or self.interval.high < 0


def draw_weights(count: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, count) how often each image occurs in each resample of `count` images with replacement."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(count, 1)), draws)


def compute_intervals(
    images: PerImageStats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> dict[str, Interval]:
    """The confidence interval of each metric; NaN with fewer than two images.

    Args:
        images: Statistics of each image.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence level.
    """
    if len(images.ids) < 2:
        names = images.compute_weighted(np.ones((1, len(images.ids))))
        return {name: Interval(np.nan, np.nan) for name in names}
    values = images.compute_weighted(draw_weights(len(images.ids), draws, seed))
    return {name: _compute_percentiles(column, level) for name, column in values.items()}


def compare_paired(
    baseline: PerImageStats, candidate: PerImageStats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> dict[str, Difference]:
    """The change of each metric from one side to the other, over the same resamples of the images.

    Args:
        baseline: Statistics of the first side.
        candidate: Statistics of the second side.
        draws: Number of resamples.
        seed: Seed of the resampling.
        level: Confidence level.

    Raises:
        DataError: The two sides are not of the same images.
    """
    if baseline.ids != candidate.ids:
        unmatched = sorted(set(baseline.ids) ^ set(candidate.ids))
        problem, hint = "the two sides are of different images", "Compare predictions for the same images."
        raise DataError(problem, field="id", value=unmatched[:3], hint=hint)
    count = len(baseline.ids)
    weights = np.concatenate([np.ones((1, count), np.int64), draw_weights(count, draws, seed)])
    first, second = baseline.compute_weighted(weights), candidate.compute_weighted(weights)
    differences = {}
    for name in (name for name in first if name in second):
        with np.errstate(invalid="ignore"):  # the PSNR of equal images is infinite on both sides: undefined change
            changes = second[name] - first[name]
        defined = changes[1:][~np.isnan(changes[1:])]
        positive_share = float((np.sign(defined) + 1).mean() / 2) if len(defined) else np.nan
        values = (float(first[name][0]), float(second[name][0]), float(changes[0]))
        differences[name] = Difference(*values, _compute_percentiles(changes[1:], level), positive_share)
    return differences


class ImageSubset:
    """The statistics of some of the images of an evaluation.

    Args:
        images: Statistics of all images.
        ids: Ids of the images to keep.
    """

    def __init__(self, images: PerImageStats, ids: Iterable[str]):
        selection = set(ids)
        self.images = images
        self.rows = [row for row, image_id in enumerate(images.ids) if image_id in selection]
        self.ids = tuple(images.ids[row] for row in self.rows)

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """Metric name -> (B,) values for (B, N) weights of the N images of the subset."""
        all_weights = np.zeros((len(weights), len(self.images.ids)), weights.dtype)
        all_weights[:, self.rows] = weights
        return self.images.compute_weighted(all_weights)

    def compute_each(self) -> Columns:
        """Metric name -> (N,) values of each image of the subset."""
        return {name: values[self.rows] for name, values in self.images.compute_each().items()}


def _compute_percentiles(values: np.ndarray, level: float) -> Interval:
    defined = np.sort(values[~np.isnan(values)])
    if len(defined) < MIN_DEFINED_SHARE * len(values):
        return Interval(np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Interval(float(low), float(high))
