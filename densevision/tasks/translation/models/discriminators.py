"""What judges whether an image is real: patches, pixels or whole images, at one or several sizes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.translation.models.layers import Norm, init_weights

SLOPE = 0.2
WIDEST = 8
"""Most channels of a layer, in those of the first."""


class PatchDiscriminator(nn.Module):
    """Strided convolutions of 4, then two unstrided ones: each logit sees a patch.

    Source: Isola et al., CVPR 2017, section 6.1.2: three layers see 70 x 70 pixels, five see 286 x 286.

    Args:
        channels: Of what is judged.
        width: Channels of the first layer.
        layers: Number of strided layers.
        norm: Builds the norm of a number of channels; the first layer has none.
        biased: Whether convolutions before norms have biases.
    """

    def __init__(self, channels: int, width: int, layers: int, norm: Norm, biased: bool):
        super().__init__()
        widths = [width * min(1 << layer, WIDEST) for layer in range(layers + 1)]
        stages = [nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE))]
        for layer in range(1, layers + 1):
            stride = 2 if layer < layers else 1
            convolution = nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 1, bias=biased)
            stages.append(nn.Sequential(convolution, norm(widths[layer]), nn.LeakyReLU(SLOPE)))
        stages.append(nn.Sequential(nn.Conv2d(widths[-1], 1, 4, 1, 1)))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the features of every stage, of which the last are logits (B, 1, h, w)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class PixelDiscriminator(nn.Module):
    """1x1 convolutions: each pixel is judged by its own colors alone.

    Args:
        channels: Of what is judged.
        width: Channels of the first layer.
        norm: Builds the norm of a number of channels.
        biased: Whether the convolution before the norm has a bias.
    """

    def __init__(self, channels: int, width: int, norm: Norm, biased: bool):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 1), nn.LeakyReLU(SLOPE))
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=biased), norm(2 * width), nn.LeakyReLU(SLOPE))
        self.last = nn.Conv2d(2 * width, 1, 1, bias=biased)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the features of every stage, of which the last are logits (B, 1, H, W)."""
        first = self.first(x)
        second = self.second(first)
        return [first, second, self.last(second)]


class MultiScaleDiscriminator(nn.Module):
    """Discriminators of one kind, each on an image half as large as the one before.

    Source: Wang et al., High-Resolution Image Synthesis with Conditional GANs (pix2pixHD), CVPR 2018, section 3.2.

    Args:
        discriminators: One per scale, the image's own first.
    """

    def __init__(self, discriminators: list[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)
        init_weights(self)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(B, C, H, W) to the features of each discriminator, of which the last are logits."""
        found = []
        for number, discriminator in enumerate(self.discriminators):
            if number:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            found.append(discriminator(x))
        return found
