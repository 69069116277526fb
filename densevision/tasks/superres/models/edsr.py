"""EDSR: residual blocks without norms on the small image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densevision.tasks.superres.models.blocks import ShuffleTail, conv3x3, steps_of

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean color of DIV2K, by which the authors center images."""


class ResidualBlock(nn.Module):
    """x + strength * conv(relu(conv(x)))."""

    def __init__(self, width: int, strength: float):
        super().__init__()
        self.first, self.second, self.strength = conv3x3(width, width), conv3x3(width, width), strength

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.second(self.first(x).relu()) * self.strength


class EDSR(nn.Module):
    """A convolution, residual blocks inside a long skip, and a shuffling tail.

    Source: Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017, section 3:
    baseline is 64 x 16, the large one 256 x 32 with residuals of a tenth.

    Args:
        channels: Of the image.
        scale: How many times larger.
        width: Channels of the features.
        depth: Number of blocks.
        strength: What each block's residual is multiplied by.
        mean: Color that is taken off before and added after; repeated or cut to the channels.
        detail: The answer is added to an image, which has the mean already: nothing is added after.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 64,
        depth: int = 16,
        strength: float = 1.0,
        mean: Sequence[float] = DIV2K_MEAN,
        detail: bool = False,
    ):
        super().__init__()
        self.detail = detail
        self.receptive_field_radius = 2 * depth + 2 + len(steps_of(scale)) + 1
        center = torch.tensor([mean[index % len(mean)] for index in range(channels)])
        self.register_buffer("mean", center.reshape(1, -1, 1, 1), persistent=False)
        self.head = conv3x3(channels, width)
        self.body = nn.Sequential(*(ResidualBlock(width, strength) for _ in range(depth)), conv3x3(width, width))
        self.tail = nn.Sequential(ShuffleTail(width, scale), conv3x3(width, channels))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        shallow = self.head(image - self.mean)
        answer = self.tail(shallow + self.body(shallow))
        return answer if self.detail else answer + self.mean
