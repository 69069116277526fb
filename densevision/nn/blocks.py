"""Convolutional blocks of necks and heads."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

__all__ = ["Bottleneck", "CSPStage", "ConvNormAct"]

ConvNormAct = partial(Conv2dNormActivation, activation_layer=nn.SiLU)
"""Convolution without bias, batch norm, SiLU: `ConvNormAct(inputs, outputs, kernel_size=3, stride=1)`, size kept."""


class Bottleneck(nn.Module):
    """Two 3x3 convolutions with a residual connection.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, with SiLU.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.Sequential(ConvNormAct(channels, channels), ConvNormAct(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return x + self.convs(x)


class CSPStage(nn.Module):
    """Half of the channels pass through the blocks; the other half and all intermediate outputs are concatenated.

    Source: Wang et al., CSPNet, CVPR Workshops 2020, for the split; Wang et al., Designing Network Design Strategies
    Through Gradient Path Analysis (ELAN), 2022, for the concatenation of intermediate outputs.

    Args:
        in_channels: Input channels.
        out_channels: Output channels, even.
        depth: Number of blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int):
        super().__init__()
        half = out_channels // 2
        self.conv_in = ConvNormAct(in_channels, 2 * half, kernel_size=1)
        self.blocks = nn.ModuleList(Bottleneck(half) for _ in range(depth))
        self.conv_out = ConvNormAct((2 + depth) * half, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        parts = list(self.conv_in(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.conv_out(torch.cat(parts, 1))
