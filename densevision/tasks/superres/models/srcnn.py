"""SRCNN: three convolutions on the enlarged image."""

from __future__ import annotations

import math

from torch import Tensor, nn

from densevision.ops.imresize import enlarge


class SRCNN(nn.Module):
    """Patch extraction, non-linear mapping and reconstruction, 9-1-5.

    Source: Dong et al., Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016, section 3; here the
    image's size is kept by zeros around it, and all channels are restored.

    Args:
        channels: Of the image.
        scale: How many times larger.
    """

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.scale = scale
        self.receptive_field_radius = math.ceil((4 + 2) / scale) + 3
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(64, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, channels, 5, padding=2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        return self.layers(enlarge(image, self.scale))
