"""Modules that exist only in training: the discriminator and the perceptual network."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from densevision.nn.perceptual import PerceptualLoss
from densevision.tasks.superres.config import LossConfig

__all__ = ["TrainingModules", "UNetDiscriminator"]

SLOPE = 0.2
DEPTH = 3
"""How often the discriminator halves the image."""


class TrainingModules(nn.Module):
    """The modules that the config's losses need.

    Attributes:
        discriminator: Trained together with the network, or None.
        perceptual: Frozen, or None.
    """

    def __init__(self, config: LossConfig, in_channels: int):
        super().__init__()
        adversarial, perceptual = config.adversarial, config.perceptual
        self.discriminator = UNetDiscriminator(in_channels, adversarial.width) if adversarial.weight else None
        self.perceptual = PerceptualLoss(perceptual.backbone, perceptual.strides) if perceptual.weight else None


class UNetDiscriminator(nn.Module):
    """Classifies every pixel as real or generated, from local and global features; spectral norms bound its slope.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021, section 3.4; after Schoenfeld et al., 2020.

    Args:
        in_channels: Channels of the images.
        width: Channels of the first level.
    """

    def __init__(self, in_channels: int, width: int = 64):
        super().__init__()
        widths = [width << level for level in range(DEPTH + 1)]
        pairs = list(itertools.pairwise(widths))
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.downs = nn.ModuleList(_build_convolution(a, b, 4, stride=2) for a, b in pairs)
        self.ups = nn.ModuleList(_build_convolution(b, a, 3) for a, b in reversed(pairs))
        self.last = nn.Sequential(
            _build_convolution(width, width, 3),
            nn.LeakyReLU(SLOPE),
            _build_convolution(width, width, 3),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to logits of being real, (B, 1, H, W); H and W are at least 16."""
        x = F.leaky_relu(self.first(image), SLOPE)
        skips = []
        for down in self.downs:
            skips.append(x)
            x = F.leaky_relu(down(x), SLOPE)
        for up, skip in zip(self.ups, reversed(skips)):
            x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), SLOPE) + skip
        return self.last(x)


def _build_convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution with a spectral norm."""
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=False))
