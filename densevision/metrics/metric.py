"""The interface of every metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from densevision.metrics.per_image import PerImageStats

__all__ = ["Metric", "Tables"]

Tables = dict[str, dict[str, dict[str, float]]]
"""Table title -> row -> column -> number."""


class Metric(Protocol):
    """An accumulator of one evaluation. The order of updates and merges never changes the numbers."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that must be known to compare the numbers with those of another tool."""

    def update(self, prediction: Any, truth: Any, image_id: int | str, /) -> None:
        """Adds the prediction and the ground truth of one image."""

    def merge(self, other: Any, /) -> None:
        """Adds the images of another accumulator of the same kind, e.g. of another process."""

    def compute(self) -> dict[str, float]:
        """The headline metrics by name; NaN where a metric is undefined."""

    def counts(self) -> dict[str, int]:
        """How many ground truths, predictions and the like the metrics are based on."""

    def tables(self) -> Tables:
        """Numbers below the headline metrics, e.g. per class."""

    def per_image(self) -> PerImageStats:
        """The statistics of each image, from which the metrics of any subset or resample follow.

        Metrics that do not decompose over images, such as distances between sets, may be left out.
        """

    def draw_plots(self, folder: Path) -> None:
        """Draws curves, confusion matrices and the like as PNG files."""
