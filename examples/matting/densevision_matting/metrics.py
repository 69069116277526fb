"""Errors of mattes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.metrics.metric import Tables
from densevision.metrics.metric_info import MetricInfo
from densevision.metrics.per_image import Columns, ImageSums, ratio
from densevision_matting.result import Matte

__all__ = ["METRIC_INFO", "MattingMetric"]

METRIC_INFO = {
    "MAE": MetricInfo("mean absolute error of the opacity of the known pixels", False),
    "MSE": MetricInfo("mean squared error of the opacity of the known pixels", False),
}
"""Metric -> what it measures."""


class MattingMetric:
    """Mean errors over the known pixels of all images; mergeable."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    @property
    def protocol(self) -> dict[str, Any]:
        """What must be known to compare the metrics with those of other tools."""
        return {"range": "[0, 1]", "average": "over the known pixels of all images"}

    def update(self, prediction: Matte, truth: Matte, image_id: int | str) -> None:
        """Adds one image.

        Raises:
            DataError: The two have different sizes.
        """
        if prediction.alpha.shape != truth.alpha.shape:
            raise DataError("the matte has another size than its ground truth", value=prediction.alpha.shape)
        error = np.abs(prediction.alpha.astype(np.float64) - truth.alpha)[np.isfinite(truth.alpha)]
        self.rows[str(image_id)] = {
            "pixels": float(error.size),
            "MAE": float(error.sum()),
            "MSE": float((error**2).sum()),
        }

    def merge(self, other: MattingMetric) -> None:
        """Adds the images of another metric."""
        self.rows |= other.rows

    def per_image(self) -> ImageSums:
        """The sums of each image."""
        return ImageSums(self.rows, dict.fromkeys(("pixels", *METRIC_INFO), 0.0), _divide)

    def compute(self) -> dict[str, float]:
        """MAE and MSE; NaN without a known pixel."""
        return self.per_image().compute()

    def counts(self) -> dict[str, int]:
        """Numbers of images and of known pixels."""
        return {"images": len(self.rows), "pixels": int(sum(row["pixels"] for row in self.rows.values()))}

    def tables(self) -> Tables:
        """None."""
        return {}

    def draw_plots(self, folder: Path) -> None:
        """None."""


def _divide(sums: Columns) -> Columns:
    return {name: ratio(sums[name], sums["pixels"]) for name in METRIC_INFO}
