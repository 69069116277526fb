"""SRVGG: the compact VGG-style network of Real-ESRGAN, fast enough for videos."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import conv3x3
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["SRVGG"]


class SRVGG(SuperresModel):
    """3x3 convolutions with PReLU at the size of the input, added to the nearest-neighbor enlargement.

    Source: Wang et al., Real-ESRGAN, its SRVGGNetCompact, 2022.

    Args:
        scale: Output pixels per input pixel.
        in_channels: Channels of the image.
        width: Channels of the features.
        depth: Number of convolutions between the first and the last.
        options: Further arguments of `SuperresModel`.
    """

    def __init__(self, scale: int = 2, in_channels: int = 3, width: int = 64, depth: int = 16, **options: Any):
        super().__init__(scale, in_channels, **options)
        self.radius = depth + 2
        layers: list[nn.Module] = [conv3x3(in_channels, width), nn.PReLU(width)]
        for _ in range(depth):
            layers += [conv3x3(width, width), nn.PReLU(width)]
        self.layers = nn.Sequential(*layers, conv3x3(width, in_channels * scale**2), nn.PixelShuffle(scale))

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.layers(image) + F.interpolate(image, scale_factor=float(self.scale), mode="nearest")
