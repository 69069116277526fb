"""Discriminators of patches, pixels or whole images, at one or several scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.translation.models.layers import BuildNorm, init_weights

__all__ = ["MultiScaleDiscriminator", "PatchDiscriminator", "PixelDiscriminator"]

SLOPE = 0.2
MAX_WIDTH_FACTOR = 8
"""Maximum channels of a layer, as a factor of the first layer's."""


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions, then two without stride: each logit classifies a patch.

    Source: Isola et al., CVPR 2017, section 6.1.2: three layers see 70 x 70 pixels, five see 286 x 286.

    Args:
        in_channels: Channels of the input.
        width: Channels of the first layer.
        layers: Number of strided layers.
        build_norm: Builds the norm of a number of channels; the first layer has none.
        bias: Whether convolutions before norms have biases.
    """

    def __init__(self, in_channels: int, width: int, layers: int, build_norm: BuildNorm, bias: bool):
        super().__init__()
        widths = [width * min(1 << layer, MAX_WIDTH_FACTOR) for layer in range(layers + 1)]
        stages = [nn.Sequential(nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE))]
        for layer in range(1, layers + 1):
            stride = 2 if layer < layers else 1
            convolution = nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 1, bias=bias)
            stages.append(nn.Sequential(convolution, build_norm(widths[layer]), nn.LeakyReLU(SLOPE)))
        stages.append(nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 1)))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the features of every stage, the last of which are logits (B, 1, h, w)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class PixelDiscriminator(nn.Module):
    """1x1 convolutions: each pixel is classified by itself.

    Args:
        in_channels: Channels of the input.
        width: Channels of the first layer.
        build_norm: Builds the norm of a number of channels.
        bias: Whether the convolution before the norm has a bias.
    """

    def __init__(self, in_channels: int, width: int, build_norm: BuildNorm, bias: bool):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.LeakyReLU(SLOPE))
        convolution = nn.Conv2d(width, 2 * width, 1, bias=bias)
        self.second = nn.Sequential(convolution, build_norm(2 * width), nn.LeakyReLU(SLOPE))
        self.last = nn.Conv2d(2 * width, 1, 1, bias=bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the features of every stage, the last of which are logits (B, 1, H, W)."""
        first = self.first(x)
        second = self.second(first)
        return [first, second, self.last(second)]


class MultiScaleDiscriminator(nn.Module):
    """Discriminators of the same kind, each on an image half as large as the previous one.

    Source: Wang et al., High-Resolution Image Synthesis with Conditional GANs (pix2pixHD), CVPR 2018, section 3.2.

    Args:
        discriminators: One per scale, the full size first.
    """

    def __init__(self, discriminators: Sequence[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)
        init_weights(self)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(B, C, H, W) to the features of each discriminator, the last of which are logits."""
        features = []
        for scale, discriminator in enumerate(self.discriminators):
            if scale:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            features.append(discriminator(x))
        return features
