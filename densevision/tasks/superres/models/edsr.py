"""EDSR: residual blocks without normalization at the size of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import ShuffleTail, compute_steps, conv3x3
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["EDSR"]

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean color of DIV2K, which the authors subtract from images."""


class ResidualBlock(nn.Module):
    """x + residual_scale * conv(relu(conv(x)))."""

    def __init__(self, width: int, residual_scale: float):
        super().__init__()
        self.first, self.second, self.residual_scale = conv3x3(width, width), conv3x3(width, width), residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.second(self.first(x).relu()) * self.residual_scale


class EDSR(SuperresModel):
    """A convolution, residual blocks inside a long skip connection, and sub-pixel convolutions.

    Source: Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017, section 3:
    the baseline is 64 x 16, the large network 256 x 32 with residuals scaled by 0.1.

    Args:
        scale: Output pixels per input pixel: 1, 2, 3, 4, 8 or 16.
        in_channels: Channels of the image.
        width: Channels of the features.
        depth: Number of residual blocks.
        residual_scale: Factor of each block's residual.
        mean: Color that is subtracted before and added after; repeated or cut to the channels.
        options: Further arguments of `SuperresModel`; with `residual` the mean is not added, as the enlargement has it.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int = 2,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 16,
        residual_scale: float = 1.0,
        mean: Sequence[float] = DIV2K_MEAN,
        **options: Any,
    ):
        super().__init__(scale, in_channels, **options)
        self.radius = 2 * depth + 2 + len(compute_steps(scale)) + 1
        color = torch.tensor([mean[index % len(mean)] for index in range(in_channels)])
        self.register_buffer("mean", color.reshape(1, -1, 1, 1), persistent=False)
        self.head = conv3x3(in_channels, width)
        blocks = (ResidualBlock(width, residual_scale) for _ in range(depth))
        self.body = nn.Sequential(*blocks, conv3x3(width, width))
        self.tail = nn.Sequential(ShuffleTail(width, scale), conv3x3(width, in_channels))

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        shallow = self.head(image - self.mean)
        output = self.tail(shallow + self.body(shallow))
        return output if self.residual else output + self.mean
