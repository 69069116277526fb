"""Necks: levels of a pyramid that learn from one another before a head reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densevision.nn.blocks import ConvNormAct, CSPStage


class PAN(nn.Module):
    """Context comes down from the deep levels, detail goes back up from the shallow ones; each meeting is a CSP stage.

    Source: Liu et al., Path Aggregation Network for Instance Segmentation, CVPR 2018, section 3.1, with CSP stages in
    place of single convolutions and concatenation in place of addition.

    Args:
        channels: Channels of the levels, shallow to deep, each of twice the stride of the one before.
        width: Channels of every level that goes out, even.
        depth: Blocks per stage.
    """

    def __init__(self, channels: Sequence[int], width: int, depth: int):
        super().__init__()
        meetings = range(len(channels) - 1)
        self.enter = nn.ModuleList(ConvNormAct(inputs, width, kernel_size=1) for inputs in channels)
        self.down = nn.ModuleList(CSPStage(2 * width, width, depth) for _ in meetings)
        self.shrink = nn.ModuleList(ConvNormAct(width, width, stride=2) for _ in meetings)
        self.up = nn.ModuleList(CSPStage(2 * width, width, depth) for _ in meetings)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, channels[i], H_i, W_i) to as many (B, width, H_i, W_i), where H_(i+1) = ceil(H_i / 2)."""
        entered = [enter(level) for enter, level in zip(self.enter, levels)]
        descending = [entered.pop()]
        for mix, level in zip(self.down, reversed(entered)):
            enlarged = F.interpolate(descending[-1], size=level.shape[-2:], mode="nearest")
            descending.append(mix(torch.cat([level, enlarged], 1)))
        ascending = [descending.pop()]
        for mix, shrink, level in zip(self.up, self.shrink, reversed(descending)):
            ascending.append(mix(torch.cat([shrink(ascending[-1]), level], 1)))
        return ascending


class FPN(nn.Module):
    """Top-down pathway with lateral connections, in torchvision's shape.

    Source: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017; torchvision.ops.FeaturePyramidNetwork.

    Args:
        channels: Channels of the levels, shallow to deep.
        width: Channels of every level that goes out.
        extra: Add a level of twice the deepest stride by taking every second cell of the last one.
        norm: Builds the norms behind the convolutions; none when not given.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int = 256,
        extra: bool = False,
        norm: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        deeper = LastLevelMaxPool() if extra else None
        self.pyramid = FeaturePyramidNetwork(list(channels), width, deeper, norm_layer=norm)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, channels[i], H_i, W_i) to as many (B, width, H_i, W_i), and the extra one."""
        named = {str(i): level for i, level in enumerate(levels)}
        return list(self.pyramid(named).values())
