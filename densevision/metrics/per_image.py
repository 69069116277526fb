"""Per-image statistics, from which metrics follow for any subset or resample of the images.

Metrics of single images, their ranking, bootstrap intervals and paired comparisons are all computed from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

__all__ = ["Columns", "ImageSums", "JoinedStats", "PerImageStats", "blank_mean", "means", "ratio", "split_mean"]

Columns = dict[str, np.ndarray]


class PerImageStats(Protocol):
    """The statistics of the images of one evaluation.

    Attributes:
        ids: Identities of the N images, in the order of all arrays.
    """

    ids: tuple[str, ...]

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """The headline metrics of resampled images.

        Args:
            weights: (B, N) how often each image occurs in each of B samples, at least 0.

        Returns:
            Metric name -> (B,) values, NaN where undefined.
        """

    def compute_each(self) -> Columns:
        """The headline metrics of each image by itself: metric name -> (N,)."""


class ImageSums:
    """Statistics of metrics that are functions of sums over images.

    Args:
        rows: Image id -> column -> number or array.
        blank: Column -> zero of the column's shape and type; what an image without this column adds.
        formulas: Maps sums by column, (..., *shape), to metrics by name, (...).
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        blank: Mapping[str, Any],
        formulas: Callable[[Columns], Columns],
    ):
        self.ids = tuple(sorted(rows))
        self.formulas = formulas
        self.columns = {name: self._stack_column(rows, name, np.asarray(zero)) for name, zero in blank.items()}

    def _stack_column(self, rows: Mapping[str, Mapping[str, Any]], name: str, zero: np.ndarray) -> np.ndarray:
        if not self.ids:
            return np.zeros((0, *zero.shape), zero.dtype)
        return np.array([rows[image_id].get(name, zero) for image_id in self.ids])

    def total(self) -> Columns:
        """The sums over all images, correctly rounded: independent of order and sharding to the last bit."""
        return {name: _sum_exactly(column) for name, column in self.columns.items()}

    def compute(self) -> dict[str, float]:
        """The metrics over all images."""
        return {name: float(value) for name, value in self.formulas(self.total()).items()}

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """Metric name -> (B,) values for (B, N) weights."""
        return self.formulas({name: _sum_weighted(weights, column) for name, column in self.columns.items()})

    def compute_each(self) -> Columns:
        """Metric name -> (N,) values of each image by itself."""
        return self.formulas(self.columns)


class JoinedStats:
    """Several sets of metrics of the same images, told apart by prefixes of their names.

    Args:
        parts: (prefix, statistics) pairs; all statistics have the same ids.
    """

    def __init__(self, parts: Iterable[tuple[str, PerImageStats]]):
        self.parts = list(parts)
        self.ids = self.parts[0][1].ids

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """Metric name -> (B,) values for (B, N) weights."""
        return self._join(lambda part: part.compute_weighted(weights))

    def compute_each(self) -> Columns:
        """Metric name -> (N,) values of each image by itself."""
        return self._join(lambda part: part.compute_each())

    def _join(self, compute: Callable[[PerImageStats], Columns]) -> Columns:
        return {f"{prefix}{name}": values for prefix, part in self.parts for name, values in compute(part).items()}


def split_mean(values: Mapping[str, float]) -> dict[str, float]:
    """An image's values as summable columns for `means`: the value and a count of 1 each; NaN is left out."""
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    return {f"value {name}": value for name, value in defined.items()} | dict.fromkeys(_count_columns(defined), 1.0)


def blank_mean(names: Iterable[str]) -> dict[str, float]:
    """Zeros for all columns that `split_mean` may produce for these names."""
    names = list(names)
    return dict.fromkeys([*(f"value {name}" for name in names), *_count_columns(names)], 0.0)


def means(sums: Columns, names: Iterable[str]) -> Columns:
    """The means over images from sums of `split_mean` columns: name -> values."""
    return {name: ratio(sums[f"value {name}"], sums[f"count {name}"]) for name in names}


def _count_columns(names: Iterable[str]) -> list[str]:
    return [f"count {name}" for name in names]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator as float64, NaN where the denominator is not positive."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    is_defined = np.broadcast_to(denominator > 0, shape)
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=is_defined)


def _sum_exactly(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind != "f":
        return column.sum(0)
    flat = column.reshape(len(column), math.prod(column.shape[1:]))
    return np.array([math.fsum(values) for values in flat.T]).reshape(column.shape[1:])


def _sum_weighted(weights: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(B, ...) weighted sums; an infinite value, such as the PSNR of equal images, counts where its weight is not 0."""
    values = column.astype(np.float64)
    is_infinite = np.isinf(values)
    sums = np.tensordot(weights, np.where(is_infinite, 0, values), 1)
    if not is_infinite.any():
        return sums
    return np.where(np.tensordot(weights, is_infinite.astype(np.float64), 1) > 0, np.inf, sums)
