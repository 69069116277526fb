"""PSNR and SSIM under the config's protocol, and LPIPS where its weights are given."""

from __future__ import annotations

from typing import Any

from densevision.metrics.image_quality import ImageMetric, comparable
from densevision.results.image import Image
from densevision.tasks.superres.config import QualityConfig


class SuperresMetric(ImageMetric):
    """Values of each image; mergeable.

    Args:
        quality: The protocol.
        crop: Width of the border that is left out.
    """

    def __init__(self, quality: QualityConfig, crop: int):
        super().__init__(quality.color, crop)
        self.lpips = quality.lpips

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers."""
        return (*super().names, "LPIPS") if self.lpips else super().names

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        told = super().protocol
        return {**told, "LPIPS": f"version 0.1 on {self.lpips}, all channels"} if self.lpips else told

    def update(self, result: Image, truth: Image, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        super().update(result, truth, id)
        if not self.lpips:
            return
        # Opened where it is used, and not kept: metrics travel between processes.
        from densevision.metrics.lpips import open_lpips

        inside = tuple(slice(self.crop, max(0, side - self.crop)) for side in truth.image.shape[:2])
        pair = [image[inside] / 255 for image in comparable(result, truth)]
        self.values[id] = (*self.values[id], open_lpips(self.lpips).of_images(*pair))
