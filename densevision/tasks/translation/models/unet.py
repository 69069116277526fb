"""The paper's generator: a U-Net of strided convolutions down to a few cells, and back."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.translation.models.layers import NoisyDropout, Norm, init_weights

SLOPE = 0.2
WIDEST = 8
"""Most channels of a level, in those of the first."""
FIRST_NOISE = 4
"""The level from which on dropout is the noise."""


class UNetGenerator(nn.Module):
    """Halves the image `depth` times, doubles it as often, and joins each level with its counterpart.

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 6.1.1.
    Networks of less depth than theirs have dropout in the last level but one.

    Args:
        inputs: Channels of the image.
        outputs: Channels of the answer.
        width: Channels of the first level.
        depth: Number of levels; sides of images are multiples of 2^depth.
        norm: Builds the norm of a number of channels.
        biased: Whether convolutions before norms have biases.
        dropout: Share of the deep features that is set to zero.
        noise: Seed of the dropout in evaluation; None turns it off there.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        norm: Norm,
        biased: bool,
        dropout: float,
        noise: int | None,
    ):
        super().__init__()
        widths = [width * min(1 << level, WIDEST) for level in range(depth)]
        self.downs = nn.ModuleList()
        for level, (before, after) in enumerate(itertools.pairwise([inputs, *widths])):
            plain = level in (0, depth - 1)  # a norm of the deepest level, of one cell, would leave nothing of it
            self.downs.append(Step(nn.Conv2d(before, after, 4, 2, 1, bias=biased), None if plain else norm(after)))
        self.ups = nn.ModuleList()
        for level, (after, before) in enumerate(itertools.pairwise([outputs, *widths])):
            inner = before if level == depth - 1 else 2 * before
            convolution = nn.ConvTranspose2d(inner, after, 4, 2, 1, bias=biased or level == 0)
            noisy = dropout and min(FIRST_NOISE, depth - 2) <= level < depth - 1 and level > 0
            drop = NoisyDropout(dropout, after, None if noise is None else (noise, level)) if noisy else None
            self.ups.append(Step(convolution, norm(after) if level else None, drop))
        init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, H, W) from -1 to 1 to (B, outputs, H, W) from -1 to 1."""
        x, levels = image, []
        for level, down in enumerate(self.downs):
            x = down(F.leaky_relu(x, SLOPE) if level else x)
            levels.append(x)
        for level in reversed(range(len(self.ups))):
            x = self.ups[level](x.relu())
            if level:
                x = torch.cat([levels[level - 1], x], 1)
        return x.float().tanh()  # half precision would round the image


class Step(nn.Module):
    """A convolution, perhaps a norm, perhaps dropout."""

    def __init__(self, convolution: nn.Module, norm: nn.Module | None, dropout: nn.Module | None = None):
        super().__init__()
        self.convolution = convolution
        self.norm = nn.Identity() if norm is None else norm
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to half or twice the size."""
        return self.dropout(self.norm(self.convolution(x)))
