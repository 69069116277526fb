"""VDSR: a very deep network that adds detail to the enlarged image, the same for every scale."""

from __future__ import annotations

import math

from torch import Tensor, nn

from densevision.ops.imresize import enlarge
from densevision.tasks.superres.models.blocks import conv3x3


class VDSR(nn.Module):
    """Twenty 3x3 convolutions, whose output is added to the interpolated image.

    Source: Kim et al., Accurate Image Super-Resolution Using Very Deep Convolutional Networks, CVPR 2016, section 3.

    Args:
        channels: Of the image.
        scale: How many times larger.
        width: Channels of the features.
        depth: Number of convolutions, at least 2.
    """

    def __init__(self, channels: int, scale: int, width: int = 64, depth: int = 20):
        super().__init__()
        self.scale = scale
        self.receptive_field_radius = math.ceil(depth / scale) + 3
        layers: list[nn.Module] = [conv3x3(channels, width), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [conv3x3(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, conv3x3(width, channels))
        for layer in self.layers[:-1:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        enlarged = enlarge(image, self.scale)
        return enlarged + self.layers(enlarged)
