"""RRDB: residual-in-residual dense blocks, the generator of ESRGAN and Real-ESRGAN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import conv3x3, padded_to, steps_of

SLOPE = 0.2
STRENGTH = 0.2
"""What a residual is multiplied by."""
GROWTH = 32
"""Channels that each convolution of a dense block adds."""
FOLDS = {1: 4, 2: 2}
"""Scale -> side of the blocks of pixels that are moved into channels; 1 for others."""


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it; the last one's output is a weak residual."""

    def __init__(self, width: int, growth: int = GROWTH):
        super().__init__()
        outputs = [growth] * 4 + [width]
        self.convs = nn.ModuleList(conv3x3(width + i * growth, channels) for i, channels in enumerate(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), SLOPE))
        return x + self.convs[-1](torch.cat(seen, 1)) * STRENGTH


class ResidualDenseBlock(nn.Sequential):
    """Three dense blocks, again as a weak residual."""

    def __init__(self, width: int):
        super().__init__(*(DenseBlock(width) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + super().forward(x) * STRENGTH


class RRDB(nn.Module):
    """Dense blocks on the small image, then nearest-neighbor steps with a convolution each.

    Scales 1 and 2 work on an image whose blocks of 4 x 4 and 2 x 2 pixels were moved into channels, so that one body
    serves all scales, as in Real-ESRGAN.

    Source: Wang et al., ESRGAN, ECCVW 2018, section 3.1; Wang et al., Real-ESRGAN, ICCVW 2021, section 3.3.

    Args:
        channels: Of the image.
        scale: How many times larger.
        width: Channels of the features.
        depth: Number of residual dense blocks.
    """

    def __init__(self, channels: int, scale: int, width: int = 64, depth: int = 23):
        super().__init__()
        self.fold = FOLDS.get(scale, 1)
        steps = steps_of(scale * self.fold)
        self.steps = tuple(steps)
        self.receptive_field_radius = (2 + 15 * depth + len(steps) + 2) * self.fold
        self.first = conv3x3(channels * self.fold**2, width)
        self.blocks = nn.Sequential(*(ResidualDenseBlock(width) for _ in range(depth)))
        self.body = conv3x3(width, width)
        self.ups = nn.ModuleList(conv3x3(width, width) for _ in steps)
        self.refine = conv3x3(width, width)
        self.last = conv3x3(width, channels)
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        height, width = image.shape[-2:]
        x = self.first(F.pixel_unshuffle(padded_to(image, self.fold), self.fold))
        x = x + self.body(self.blocks(x))
        for step, conv in zip(self.steps, self.ups):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=float(step), mode="nearest")), SLOPE)
        x = self.last(F.leaky_relu(self.refine(x), SLOPE))
        return x[..., : height * self.scale, : width * self.scale]
