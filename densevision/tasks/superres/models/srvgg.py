"""The compact VGG-like network of Real-ESRGAN: fast, and good for video."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import conv3x3


class SRVGG(nn.Module):
    """Plain 3x3 convolutions with PReLU on the small image; their shuffled output is added to the repeated pixels.

    Source: Wang et al., Real-ESRGAN, its SRVGGNetCompact, 2022.

    Args:
        channels: Of the image.
        scale: How many times larger.
        width: Channels of the features.
        depth: Number of convolutions between the first and the last.
    """

    def __init__(self, channels: int, scale: int, width: int = 64, depth: int = 16):
        super().__init__()
        self.scale = scale
        self.receptive_field_radius = depth + 2
        layers: list[nn.Module] = [conv3x3(channels, width), nn.PReLU(width)]
        for _ in range(depth):
            layers += [conv3x3(width, width), nn.PReLU(width)]
        self.layers = nn.Sequential(*layers, conv3x3(width, channels * scale**2), nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        return self.layers(image) + F.interpolate(image, scale_factor=float(self.scale), mode="nearest")
