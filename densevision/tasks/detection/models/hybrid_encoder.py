"""The hybrid encoder of RT-DETR and D-FINE: attention within the coarsest level, convolutions across levels.

Sources: Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", CVPR 2024, section 4.2; Peng et al., "D-FINE",
ICLR 2025, section 4.3 and appendix (RepNCSPELAN blocks, separable downsampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.inference_form import folded_convolution
from densevision.tasks.detection.models.transformer_layers import MLP, SelfAttention

__all__ = [
    "CSPRepBlock",
    "ConvNorm",
    "EncoderLayer",
    "HybridEncoder",
    "RepNCSPELAN",
    "RepVGGBlock",
    "SeparableDownsample",
    "position_embedding",
]

TEMPERATURE = 10_000.0
"""Base of the wavelengths of the position embedding."""


class HybridEncoder(nn.Module):
    """Feature levels of a backbone to levels of one width that share their information.

    Args:
        in_channels: Channels of the backbone's levels, finest first.
        width: Channels of every level that leaves.
        feedforward: Hidden features of the attention layer's MLP.
        heads: Heads of the attention layer.
        expansion: Channels inside a RepNCSPELAN block are this times half of `width`.
        depth: Multiplier of the three re-parameterizable convolutions per branch of a block.
        attention_layers: Attention layers on the coarsest level.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        width: int = 256,
        feedforward: int = 1024,
        heads: int = 8,
        expansion: float = 1.0,
        depth: float = 1.0,
        attention_layers: int = 1,
    ):
        super().__init__()
        if width % 4:
            raise ValueError(f"width of the hybrid encoder must be a multiple of 4; width={width}")
        hidden = round(expansion * width // 2)
        blocks = round(3 * depth)
        steps = range(len(in_channels) - 1)
        self.width = width
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)) for channels in in_channels
        )
        self.attention = nn.ModuleList(EncoderLayer(width, feedforward, heads) for _ in range(attention_layers))
        self.lateral = nn.ModuleList(ConvNorm(width, width, 1, activate=False) for _ in steps)
        self.top_down = nn.ModuleList(RepNCSPELAN(2 * width, width, hidden, blocks) for _ in steps)
        self.downsample = nn.ModuleList(SeparableDownsample(width) for _ in steps)
        self.bottom_up = nn.ModuleList(RepNCSPELAN(2 * width, width, hidden, blocks) for _ in steps)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, in_channels[i], H_i, W_i), finest first, to levels (B, width, H_i, W_i)."""
        features = [project(level) for project, level in zip(self.project, levels)]
        features[-1] = self._attend(features[-1])

        coarse = features[-1]
        merged = []
        for finer, lateral, block in zip(reversed(features[:-1]), self.lateral, self.top_down):
            coarse = lateral(coarse)
            merged.append(coarse)
            enlarged = F.interpolate(coarse, size=finer.shape[-2:], mode="nearest")
            coarse = block(torch.cat([enlarged, finer], 1))

        outputs = [coarse]
        for level, downsample, block in zip(reversed(merged), self.downsample, self.bottom_up):
            outputs.append(block(torch.cat([downsample(outputs[-1]), level], 1)))
        return outputs

    def _attend(self, level: Tensor) -> Tensor:
        height, width = level.shape[-2:]
        tokens = level.flatten(2).transpose(1, 2)
        positions = position_embedding(height, width, self.width, level.device).to(tokens.dtype)
        for layer in self.attention:
            tokens = layer(tokens, positions)
        return tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous()


def position_embedding(height: int, width: int, features: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of rows and columns: (height * width, features) float32, row by row.

    A quarter of the features each: sine of the row, cosine of the row, sine of the column, cosine of the column.
    """
    quarter = features // 4
    # In float64, so that the rounding of large angles does not depend on the device; MPS has none.
    dtype = torch.float32 if device is not None and device.type == "mps" else torch.float64
    frequencies = 1.0 / TEMPERATURE ** (torch.arange(quarter, dtype=dtype, device=device) / quarter)
    rows, columns = (torch.arange(side, dtype=dtype, device=device)[:, None] * frequencies for side in (height, width))
    by_row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)
    by_column = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([by_row, by_column], 2).flatten(0, 1).float()


class EncoderLayer(nn.Module):
    """Self-attention and an MLP, each with a residual and a norm behind it."""

    def __init__(self, width: int, feedforward: int, heads: int):
        super().__init__()
        self.self_attention = SelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.feedforward = MLP(width, feedforward, width, 2, nn.GELU)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, N, width) with position embeddings (N, width) to (B, N, width)."""
        tokens = self.norm1(tokens + self.self_attention(tokens, positions))
        return self.norm2(tokens + self.feedforward(tokens))


class ConvNorm(nn.Module):
    """Convolution, batch norm and, if asked for, SiLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ):
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.SiLU() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.activation(self.norm(self.conv(x)))


class RepVGGBlock(nn.Module):
    """A 3x3 and a 1x1 convolution side by side (Ding et al., "RepVGG", CVPR 2021), without the identity branch."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, activate=False)
        self.conv2 = ConvNorm(channels, channels, 1, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return F.silu(self.conv1(x) + self.conv2(x))

    def rewrite_for_inference(self) -> nn.Module:
        """One convolution and SiLU, with the norms folded; see `densevision.nn.inference_form`."""
        wide, point = (folded_convolution(branch.conv, branch.norm) for branch in (self.conv1, self.conv2))
        weight = wide.weight + F.pad(point.weight, (1, 1, 1, 1))
        wide.weight = nn.Parameter(weight, requires_grad=False)
        wide.bias = nn.Parameter(cast(Tensor, wide.bias) + cast(Tensor, point.bias), requires_grad=False)
        return nn.Sequential(wide, nn.SiLU())


class CSPRepBlock(nn.Module):
    """Cross-stage partial block: RepVGG blocks on one branch, a 1x1 convolution on the other, and their sum."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, 1)
        self.conv2 = ConvNorm(in_channels, out_channels, 1)
        self.bottlenecks = nn.Sequential(*(RepVGGBlock(out_channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.bottlenecks(self.conv1(x)) + self.conv2(x)


class RepNCSPELAN(nn.Module):
    """Aggregation of two chained CSP branches and both halves of their input.

    Args:
        in_channels: Channels that enter.
        out_channels: Channels that leave; the 1x1 convolution at the start gives twice as many.
        hidden: Channels of the two branches.
        blocks: RepVGG blocks per branch.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden: int, blocks: int):
        super().__init__()
        self.conv1 = ConvNorm(in_channels, 2 * out_channels, 1)
        self.csp1 = CSPRepBlock(out_channels, hidden, blocks)
        self.conv2 = ConvNorm(hidden, hidden, 3)
        self.csp2 = CSPRepBlock(hidden, hidden, blocks)
        self.conv3 = ConvNorm(hidden, hidden, 3)
        self.conv4 = ConvNorm(2 * out_channels + 2 * hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        halves = self.conv1(x)
        first = self.conv2(self.csp1(halves.chunk(2, 1)[1]))
        second = self.conv3(self.csp2(first))
        return self.conv4(torch.cat([halves, first, second], 1))


class SeparableDownsample(nn.Module):
    """Halves the sides: a 1x1 convolution, then a depthwise 3x3 of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 1, activate=False)
        self.conv2 = ConvNorm(channels, channels, 3, stride=2, groups=channels, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, channels, ceil(H / 2), ceil(W / 2))."""
        return self.conv2(self.conv1(x))
