"""What a metric keeps of each image, so that its numbers follow for any choice of images.

Everything below the headline comes from here: the numbers of single images, the worst of them, and the intervals and
comparisons that draw images anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

Columns = dict[str, np.ndarray]


class PerImageStats(Protocol):
    """The images of one evaluation.

    Attributes:
        ids: Identities of the N images, in one order for every method.
    """

    ids: tuple[str, ...]

    def numbers(self, weights: np.ndarray) -> Columns:
        """The headline numbers as if each image had been there so often.

        Args:
            weights: (B, N), not negative.

        Returns:
            Name -> (B,) numbers, NaN where nothing defines one.
        """

    def each(self) -> Columns:
        """The headline numbers of each image alone: name -> (N,)."""


class Sums:
    """Images whose numbers follow from sums over them.

    Args:
        rows: Image -> column -> number or array.
        blank: What an image of which nothing is known adds: zeros, in the columns and shapes that rows may have.
        formulas: Sums by column, (..., *shape), to numbers by name, (...).
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        blank: Mapping[str, Any],
        formulas: Callable[[Columns], Columns],
    ):
        self.ids = tuple(sorted(rows))
        self.formulas = formulas
        self.columns = {name: self._column(rows, name, np.asarray(zero)) for name, zero in blank.items()}

    def _column(self, rows: Mapping[str, Mapping[str, Any]], name: str, zero: np.ndarray) -> np.ndarray:
        if not self.ids:
            return np.zeros((0, *zero.shape), zero.dtype)
        return np.array([rows[id].get(name, zero) for id in self.ids])

    def total(self) -> Columns:
        """The sums over all images, rounded once: neither order nor shards change a bit of them."""
        return {name: _exact(column) for name, column in self.columns.items()}

    def compute(self) -> dict[str, float]:
        """The numbers over all images."""
        return {name: float(value) for name, value in self.formulas(self.total()).items()}

    def numbers(self, weights: np.ndarray) -> Columns:
        """Name -> (B,) numbers for (B, N) weights."""
        return self.formulas({name: _weighted(weights, column) for name, column in self.columns.items()})

    def each(self) -> Columns:
        """Name -> (N,) numbers of each image alone."""
        return self.formulas(self.columns)


class Joined:
    """Several sets of numbers of the same images, under names that differ.

    Args:
        parts: Prefixes of the names, and images; all with the same ids.
    """

    def __init__(self, parts: Iterable[tuple[str, PerImageStats]]):
        self.parts = list(parts)
        self.ids = self.parts[0][1].ids

    def numbers(self, weights: np.ndarray) -> Columns:
        """Name -> (B,) numbers for (B, N) weights."""
        return self._named(lambda part: part.numbers(weights))

    def each(self) -> Columns:
        """Name -> (N,) numbers of each image alone."""
        return self._named(lambda part: part.each())

    def _named(self, ask: Callable[[PerImageStats], Columns]) -> Columns:
        return {f"{prefix}{name}": values for prefix, part in self.parts for name, values in ask(part).items()}


def split_mean(values: Mapping[str, float]) -> dict[str, float]:
    """An image's values as the sums from which their means over images follow; NaN counts nowhere."""
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return {f"value {name}": value for name, value in known.items()} | dict.fromkeys(_counts(known), 1.0)


def blank_mean(names: Iterable[str]) -> dict[str, float]:
    """The columns that `split_mean` may fill, blank."""
    names = list(names)
    return dict.fromkeys([*(f"value {name}" for name in names), *_counts(names)], 0.0)


def means(sums: Columns, names: Iterable[str]) -> Columns:
    """The means over images of what `split_mean` split: name -> numbers."""
    return {name: ratio(sums[f"value {name}"], sums[f"count {name}"]) for name in names}


def _counts(names: Iterable[str]) -> list[str]:
    return [f"count {name}" for name in names]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole as float64, NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.full(shape, np.nan), where=np.broadcast_to(whole > 0, shape))


def _exact(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind != "f":
        return column.sum(0)
    flat = column.reshape(len(column), math.prod(column.shape[1:]))
    return np.array([math.fsum(values) for values in flat.T]).reshape(column.shape[1:])


def _weighted(weights: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(B, ...) weighted sums; what is infinite, as the PSNR of equal images, is so only where it has a weight."""
    numbers = column.astype(np.float64)
    endless = np.isinf(numbers)
    found = np.tensordot(weights, np.where(endless, 0, numbers), 1)
    return np.where(np.tensordot(weights, endless.astype(np.float64), 1) > 0, np.inf, found) if endless.any() else found
