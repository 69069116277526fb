"""Blocks that necks and heads are made of."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

ConvNormAct = partial(Conv2dNormActivation, activation_layer=nn.SiLU)
"""Convolution without bias, batch norm, SiLU: `ConvNormAct(inputs, outputs, kernel_size=3, stride=1)`, size kept."""


class Bottleneck(nn.Module):
    """Two 3x3 convolutions beside an identity.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, with SiLU.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.convolve = nn.Sequential(ConvNormAct(channels, channels), ConvNormAct(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return x + self.convolve(x)


class CSPStage(nn.Module):
    """A stage in which only a part of the channels takes the long way, and every step of it is heard at the end.

    Half of the channels run through the blocks one after the other; the untouched half and what each block answers are
    joined and mixed. Gradients reach every block by a short path, for half the computation.

    Source: Wang et al., CSPNet, CVPR Workshops 2020, for the split; Wang et al., Designing Network Design Strategies
    Through Gradient Path Analysis (ELAN), 2022, for the joined steps.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, even.
        depth: Number of blocks.
    """

    def __init__(self, inputs: int, outputs: int, depth: int):
        super().__init__()
        half = outputs // 2
        self.enter = ConvNormAct(inputs, 2 * half, kernel_size=1)
        self.blocks = nn.ModuleList(Bottleneck(half) for _ in range(depth))
        self.leave = ConvNormAct((2 + depth) * half, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        steps = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            steps.append(block(steps[-1]))
        return self.leave(torch.cat(steps, 1))
