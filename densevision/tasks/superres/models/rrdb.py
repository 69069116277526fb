"""RRDB: residual-in-residual dense blocks, the generator of ESRGAN and Real-ESRGAN."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import compute_steps, conv3x3, pad_to_multiple
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["RRDB"]

SLOPE = 0.2
RESIDUAL_SCALE = 0.2
GROWTH = 32
"""Channels that each convolution of a dense block adds."""
UNSHUFFLE_FACTORS = {1: 4, 2: 2}
"""Scale -> downscale factor of the pixel unshuffle before the first convolution; 1 for other scales."""


class DenseBlock(nn.Module):
    """Five convolutions, each with all earlier outputs as input; the last one's output is a scaled residual."""

    def __init__(self, width: int, growth: int = GROWTH):
        super().__init__()
        outputs = [growth] * 4 + [width]
        self.convs = nn.ModuleList(conv3x3(width + i * growth, channels) for i, channels in enumerate(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        features = [x]
        for conv in self.convs[:-1]:
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), SLOPE))
        return x + self.convs[-1](torch.cat(features, 1)) * RESIDUAL_SCALE


class ResidualDenseBlock(nn.Sequential):
    """Three dense blocks as a scaled residual."""

    def __init__(self, width: int):
        super().__init__(*(DenseBlock(width) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + super().forward(x) * RESIDUAL_SCALE


class RRDB(SuperresModel):
    """Dense blocks at the size of the input, then nearest-neighbor enlargement with a convolution per step.

    Scales 1 and 2 first move blocks of 4 x 4 and 2 x 2 pixels into channels, so that one body serves all scales, as in
    Real-ESRGAN.

    Source: Wang et al., ESRGAN, ECCVW 2018, section 3.1; Wang et al., Real-ESRGAN, ICCVW 2021, section 3.3.

    Args:
        scale: Output pixels per input pixel: 1, 2, 3, 4, 8 or 16.
        in_channels: Channels of the image.
        width: Channels of the features.
        depth: Number of residual-in-residual dense blocks.
        options: Further arguments of `SuperresModel`.
    """

    def __init__(self, scale: int = 2, in_channels: int = 3, width: int = 64, depth: int = 23, **options: Any):
        super().__init__(scale, in_channels, **options)
        factor = UNSHUFFLE_FACTORS.get(scale, 1)
        steps = compute_steps(scale * factor)
        self.radius = (2 + 15 * depth + len(steps) + 2) * factor
        self.limit_sides(multiple_of=factor)
        self.factor, self.steps = factor, tuple(steps)
        self.first = conv3x3(in_channels * factor**2, width)
        self.blocks = nn.Sequential(*(ResidualDenseBlock(width) for _ in range(depth)))
        self.body = conv3x3(width, width)
        self.ups = nn.ModuleList(conv3x3(width, width) for _ in steps)
        self.refine = conv3x3(width, width)
        self.last = conv3x3(width, in_channels)

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        height, width = image.shape[-2:]
        x = self.first(F.pixel_unshuffle(pad_to_multiple(image, self.factor), self.factor))
        x = x + self.body(self.blocks(x))
        for step, conv in zip(self.steps, self.ups):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=float(step), mode="nearest")), SLOPE)
        x = self.last(F.leaky_relu(self.refine(x), SLOPE))
        return x[..., : height * self.scale, : width * self.scale]
