"""What a metric keeps of each picture, so that its numbers follow for any choice of pictures.

Everything below the headline comes from here: the numbers of single pictures, the worst of them, and the intervals and
comparisons that draw pictures anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

Columns = dict[str, np.ndarray]


class Pictures(Protocol):
    """The pictures of one evaluation.

    Attributes:
        ids: Identities of the N pictures, in one order for every method.
    """

    ids: tuple[str, ...]

    def numbers(self, weights: np.ndarray) -> Columns:
        """The headline numbers as if each picture had been there so often.

        Args:
            weights: (B, N), not negative.

        Returns:
            Name -> (B,) numbers, NaN where nothing defines one.
        """

    def each(self) -> Columns:
        """The headline numbers of each picture alone: name -> (N,)."""


class Sums:
    """Pictures whose numbers follow from sums over them.

    Args:
        rows: Picture -> column -> number or array.
        blank: What a picture of which nothing is known adds: zeros, in the columns and shapes that rows may have.
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
        """The sums over all pictures, rounded once: neither order nor shards change a bit of them."""
        return {name: _exact(column) for name, column in self.columns.items()}

    def compute(self) -> dict[str, float]:
        """The numbers over all pictures."""
        return {name: float(value) for name, value in self.formulas(self.total()).items()}

    def numbers(self, weights: np.ndarray) -> Columns:
        """Name -> (B,) numbers for (B, N) weights."""
        return self.formulas({name: _weighted(weights, column) for name, column in self.columns.items()})

    def each(self) -> Columns:
        """Name -> (N,) numbers of each picture alone."""
        return self.formulas(self.columns)


class Joined:
    """Several sets of numbers of the same pictures, under names that differ.

    Args:
        parts: Prefixes of the names, and pictures; all with the same ids.
    """

    def __init__(self, parts: Iterable[tuple[str, Pictures]]):
        self.parts = list(parts)
        self.ids = self.parts[0][1].ids

    def numbers(self, weights: np.ndarray) -> Columns:
        """Name -> (B,) numbers for (B, N) weights."""
        return self._named(lambda part: part.numbers(weights))

    def each(self) -> Columns:
        """Name -> (N,) numbers of each picture alone."""
        return self._named(lambda part: part.each())

    def _named(self, ask: Callable[[Pictures], Columns]) -> Columns:
        return {f"{prefix}{name}": values for prefix, part in self.parts for name, values in ask(part).items()}


def meant(values: Mapping[str, float]) -> dict[str, float]:
    """A picture's values as the sums from which their means over pictures follow; NaN counts nowhere."""
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    return {f"value {name}": value for name, value in known.items()} | dict.fromkeys(_counts(known), 1.0)


def unmeant(names: Iterable[str]) -> dict[str, float]:
    """The columns that `meant` may fill, blank."""
    names = list(names)
    return dict.fromkeys([*(f"value {name}" for name in names), *_counts(names)], 0.0)


def means(sums: Columns, names: Iterable[str]) -> Columns:
    """The means over pictures of what `meant` split: name -> numbers."""
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
    """(B, ...) weighted sums; what is infinite, as the PSNR of equal pictures, is so only where it has a weight."""
    numbers = column.astype(np.float64)
    endless = np.isinf(numbers)
    found = np.tensordot(weights, np.where(endless, 0, numbers), 1)
    return np.where(np.tensordot(weights, endless.astype(np.float64), 1) > 0, np.inf, found) if endless.any() else found
