"""The metrics of every task of a joint model, as "task/metric", and their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from densevision.metrics.metric import Metric, Tables
from densevision.metrics.metric_info import MetricInfo, find_metric_info
from densevision.metrics.per_image import Columns, PerImageStats
from densevision.results import JointResult
from densevision.tasks import TASKS, import_task_module
from densevision.tasks.joint.names import NAME, find_task_name

__all__ = ["MEAN", "METRIC_INFO", "JointMetric"]

MEAN = "mean"
"""Name of the metric that selects the best weights."""


class _JointMetricInfo(Mapping[str, MetricInfo]):
    """Metric -> what it measures: those of all tasks, looked up when they are asked for."""

    def __getitem__(self, name: str) -> MetricInfo:
        info = self._find(name)
        if info is None:
            raise KeyError(name)
        return info

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        yield MEAN
        for task in TASKS:
            if task != NAME:
                yield from (f"{task}/{name}" for name in import_task_module(task, "metrics").METRIC_INFO)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _find(self, name: str) -> MetricInfo | None:
        if name == MEAN:
            return MetricInfo("mean of the tasks' monitored metrics; an error e counts as 1 / (1 + e)")
        part, slash, metric = name.partition("/")
        task = find_task_name(part)
        if not slash or task is None:
            return None
        info = find_metric_info(import_task_module(task, "metrics").METRIC_INFO, metric)
        return info if info.text else None


METRIC_INFO: Mapping[str, MetricInfo] = _JointMetricInfo()
"""Metric -> what it measures."""


class JointMetric:
    """The metrics of all tasks; each image counts for the tasks for which it has labels. Mergeable.

    Args:
        metrics: Name of each task -> its empty metric.
        monitors: Name of each task -> its monitored metric and whether to "max" or "min" it; none for prediction files.
    """

    def __init__(self, metrics: Mapping[str, Metric], monitors: Mapping[str, tuple[str, str]]):
        self.metrics, self.monitors = dict(metrics), dict(monitors)

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol of each task."""
        return {name: metric.protocol for name, metric in self.metrics.items()}

    def update(self, prediction: JointResult, truth: JointResult, image_id: int | str) -> None:
        """Adds one image to the metrics of the tasks for which it has labels."""
        for name, metric in self.metrics.items():
            if name in truth:
                metric.update(prediction[name], truth[name], image_id)

    def merge(self, other: JointMetric) -> None:
        """Adds the images of another metric, e.g. of another process."""
        for name, metric in self.metrics.items():
            metric.merge(other.metrics[name])

    def compute(self) -> dict[str, float]:
        """The metrics of all tasks as "task/metric"; with monitors also their mean, NaN where no task has labels."""
        values = {
            f"{name}/{key}": value for name, metric in self.metrics.items() for key, value in metric.compute().items()
        }
        if not self.monitors:
            return values
        return {MEAN: float(self._compute_mean(lambda name: np.asarray(values[name]))), **values}

    def counts(self) -> dict[str, int]:
        """The counts of each task."""
        return {
            f"{name}: {kind}": count for name, metric in self.metrics.items() for kind, count in metric.counts().items()
        }

    def tables(self) -> Tables:
        """The tables of each task."""
        return {f"{name}: {title}": t for name, metric in self.metrics.items() for title, t in metric.tables().items()}

    def per_image(self) -> JointStats:
        """The statistics of each image, for the tasks for which it has labels."""
        stats = {name: metric.per_image() for name, metric in self.metrics.items()}
        return JointStats(stats, self._compute_mean if self.monitors else None)

    def draw_plots(self, folder: Path) -> None:
        """The plots of each task, in a folder of its name."""
        for name, metric in self.metrics.items():
            metric.draw_plots(folder / name)

    def _compute_mean(self, get: Callable[[str], np.ndarray]) -> np.ndarray:
        """The mean over tasks, NaN left out; `get` gives the values of a metric."""
        terms = []
        for name, (metric, direction) in self.monitors.items():
            values = np.asarray(get(f"{name}/{metric}"), np.float64)
            terms.append(values if direction == "max" else 1 / (1 + values))
        stacked = np.stack(terms)
        count = (~np.isnan(stacked)).sum(0)
        return np.where(count > 0, np.nansum(stacked, 0) / np.maximum(count, 1), math.nan)


class JointStats:
    """The statistics of each image for several tasks, which may be of different images.

    Args:
        parts: Name of each task -> the statistics of its images.
        compute_mean: Maps a function from metric names to values to their mean; None leaves the mean out.
    """

    def __init__(
        self,
        parts: Mapping[str, PerImageStats],
        compute_mean: Callable[[Callable[[str], np.ndarray]], np.ndarray] | None = None,
    ):
        self.parts, self.compute_mean = dict(parts), compute_mean
        self.ids = tuple(sorted({image_id for part in self.parts.values() for image_id in part.ids}))
        rows = {image_id: row for row, image_id in enumerate(self.ids)}
        self.rows = {name: np.array([rows[i] for i in part.ids], np.int64) for name, part in self.parts.items()}

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """Metric name -> (B,) values for (B, N) weights."""
        columns = {
            f"{name}/{key}": values
            for name, part in self.parts.items()
            for key, values in part.compute_weighted(weights[:, self.rows[name]]).items()
        }
        return self._add_mean(columns)

    def compute_each(self) -> Columns:
        """Metric name -> (N,) values of each image by itself, NaN where it has no labels."""
        columns = {}
        for name, part in self.parts.items():
            for key, values in part.compute_each().items():
                columns[f"{name}/{key}"] = np.full(len(self.ids), math.nan)
                columns[f"{name}/{key}"][self.rows[name]] = values
        return self._add_mean(columns)

    def _add_mean(self, columns: Columns) -> Columns:
        if self.compute_mean is None:
            return columns
        return {MEAN: self.compute_mean(columns.__getitem__), **columns}
