"""How far numbers would move with other images of the same kind: the bootstrap over images.

Source: Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 1979; percentile intervals. A
comparison draws the same images for both sides, so that what is hard about an image is hard for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from densevision.errors import DataError
from densevision.metrics.per_image import PerImageStats

DEFINED = 0.8
"""Part of the draws that must define a number for it to have an interval: what a single image defines is in at most
three quarters of them, and would have an interval without width."""
DRAWS = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """Between which ends a number lies; NaN where too few draws define it."""

    low: float
    high: float


class Difference(NamedTuple):
    """What another answer to the same images changes.

    Attributes:
        one: The number of one side.
        other: The number of the other.
        change: other - one.
        interval: Of the change.
        above: Part of the draws in which the change is positive; ties count half.
    """

    one: float
    other: float
    change: float
    interval: Interval
    above: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out no change at all."""
        return self.interval.low > 0 or self.interval.high < 0


def drawn(count: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, count) how often each of so many images is drawn, where each draw takes as many as there are."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(count, 1)), draws)


def intervals(images: PerImageStats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> dict[str, Interval]:
    """The interval of each number; NaN with fewer than two images.

    Args:
        images: What a metric kept of each image.
        draws: How often the images are drawn anew.
        seed: Of the draws.
        level: Part of the draws that lies inside.
    """
    weights = drawn(len(images.ids), draws, seed)
    alone = len(images.ids) < 2
    numbers = images.numbers(weights if not alone else np.ones((1, len(images.ids))))
    return {name: Interval(np.nan, np.nan) if alone else _ends(values, level) for name, values in numbers.items()}


def compare(
    one: PerImageStats, other: PerImageStats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> dict[str, Difference]:
    """The change of each number from one side to the other, over the same draws of images.

    Raises:
        DataError: They are not of the same images.
    """
    if one.ids != other.ids:
        lacking = sorted(set(one.ids) ^ set(other.ids))
        problem, hint = "the two sides judge different images", "Give answers to the same images."
        raise DataError(problem, field="id", value=lacking[:3], hint=hint)
    weights = np.concatenate([np.ones((1, len(one.ids)), np.int64), drawn(len(one.ids), draws, seed)])
    mine, theirs = one.numbers(weights), other.numbers(weights)
    found = {}
    for name in (name for name in mine if name in theirs):
        with np.errstate(invalid="ignore"):  # equal images on both sides: their PSNR is endless, the change undefined
            changes = theirs[name] - mine[name]
        known = changes[1:][~np.isnan(changes[1:])]
        above = float((np.sign(known) + 1).mean() / 2) if len(known) else np.nan
        values = (float(mine[name][0]), float(theirs[name][0]), float(changes[0]))
        found[name] = Difference(*values, _ends(changes[1:], level), above)
    return found


class Chosen:
    """Some of the images of an evaluation, as if there were no others.

    Args:
        images: All of them.
        ids: Those that are kept.
    """

    def __init__(self, images: PerImageStats, ids: Iterable[str]):
        kept = set(ids)
        self.images = images
        self.rows = [row for row, id in enumerate(images.ids) if id in kept]
        self.ids = tuple(images.ids[row] for row in self.rows)

    def numbers(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> (B,) numbers for (B, N) weights of those that are kept."""
        whole = np.zeros((len(weights), len(self.images.ids)), weights.dtype)
        whole[:, self.rows] = weights
        return self.images.numbers(whole)

    def each(self) -> dict[str, np.ndarray]:
        """Name -> (N,) numbers of each image that is kept."""
        return {name: values[self.rows] for name, values in self.images.each().items()}


def _ends(values: np.ndarray, level: float) -> Interval:
    known = np.sort(values[~np.isnan(values)])
    if len(known) < DEFINED * len(values):
        return Interval(np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Interval(float(low), float(high))
