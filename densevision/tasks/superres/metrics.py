"""PSNR and SSIM under the config's protocol, and LPIPS where its weights are given."""

from __future__ import annotations

from typing import Any

from densevision.metrics.image_quality import ImageMetric, to_comparable
from densevision.metrics.metric_info import IMAGE_QUALITY_INFO
from densevision.results.image import Image
from densevision.tasks.superres.config import QualityConfig

__all__ = ["METRIC_INFO", "SuperresMetric"]

METRIC_INFO = IMAGE_QUALITY_INFO
"""Metric -> what it measures."""


class SuperresMetric(ImageMetric):
    """The metrics of each image; mergeable.

    Args:
        quality: The protocol.
        crop: Width of the border that is left out, in pixels.
    """

    def __init__(self, quality: QualityConfig, crop: int):
        super().__init__(quality.color, crop, quality.luma)
        self.lpips = quality.lpips

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names."""
        return (*super().names, "LPIPS") if self.lpips else super().names

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        protocol = super().protocol
        return {**protocol, "LPIPS": f"version 0.1 on {self.lpips}, all channels"} if self.lpips else protocol

    def update(self, prediction: Image, truth: Image, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image."""
        super().update(prediction, truth, image_id)
        if not self.lpips:
            return
        # Loaded here and not kept, because metrics are sent between processes.
        from densevision.metrics.lpips import load_lpips

        inside = tuple(slice(self.crop, max(0, side - self.crop)) for side in truth.image.shape[:2])
        pair = [image[inside] / 255 for image in to_comparable(prediction, truth)]
        self.values[image_id] = (*self.values[image_id], load_lpips(self.lpips).compare_images(*pair))
