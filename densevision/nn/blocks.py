"""Building blocks of necks and heads."""

from __future__ import annotations

import torch
from timm.layers import ConvNormAct
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch norm, SiLU; padded so that the size is divided by the stride, rounded up."""
    return ConvNormAct(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, act_layer=nn.SiLU)


class Residual(nn.Module):
    """Two convolutions 3x3 beside an identity (He et al., Deep Residual Learning, CVPR 2016).

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int):
        super().__init__()
        self.first = conv(width, width)
        self.second = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return x + self.second(self.first(x))


class PartialStage(nn.Module):
    """A cross-stage partial stage: half of the channels pass by, the other half through residual blocks, all are joined.

    The output of every block is kept for the join, so that short and long paths reach it alike. Sources: Wang et al.,
    CSPNet, CVPRW 2020; Wang et al., Designing Network Design Strategies Through Gradient Path Analysis (ELAN), 2022.

    Args:
        inputs: Channels in.
        outputs: Channels out, an even number.
        depth: Residual blocks.
    """

    def __init__(self, inputs: int, outputs: int, depth: int):
        super().__init__()
        half = outputs // 2
        self.enter = conv(inputs, 2 * half, kernel=1)
        self.blocks = nn.ModuleList(Residual(half) for _ in range(depth))
        self.join = conv((2 + depth) * half, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1))
