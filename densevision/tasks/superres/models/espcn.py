"""ESPCN: three convolutions at the size of the input, and a pixel shuffle."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["ESPCN"]


class ESPCN(SuperresModel):
    """5-3-3 convolutions with 64 and 32 channels; the last one predicts the scale x scale pixels of each cell.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network, CVPR 2016, section 3.

    Args:
        scale, in_channels, options: Those of `SuperresModel`.
    """

    def __init__(self, scale: int = 2, in_channels: int = 3, **options: Any):
        super().__init__(scale, in_channels, **options)
        self.radius = 4
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 64, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(32, in_channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.layers(image)
