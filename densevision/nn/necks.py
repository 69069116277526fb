"""Necks: modules that combine the levels of a feature pyramid before a head reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densevision.nn.blocks import ConvNormAct, CSPStage

__all__ = ["FPN", "PAN"]


class PAN(nn.Module):
    """Path aggregation: a top-down, then a bottom-up pass; levels are joined by CSP stages.

    Source: Liu et al., Path Aggregation Network for Instance Segmentation, CVPR 2018, section 3.1, with CSP stages
    instead of single convolutions and concatenation instead of addition.

    Args:
        in_channels: Channels of the levels, shallow to deep, each of twice the stride of the one before.
        channels: Channels of every output level, even.
        depth: Blocks per stage.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, depth: int):
        super().__init__()
        joints = range(len(in_channels) - 1)
        self.lateral = nn.ModuleList(ConvNormAct(inputs, channels, kernel_size=1) for inputs in in_channels)
        self.top_down = nn.ModuleList(CSPStage(2 * channels, channels, depth) for _ in joints)
        self.downsample = nn.ModuleList(ConvNormAct(channels, channels, stride=2) for _ in joints)
        self.bottom_up = nn.ModuleList(CSPStage(2 * channels, channels, depth) for _ in joints)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, in_channels[i], H_i, W_i) to as many (B, channels, H_i, W_i), where H_(i+1) = ceil(H_i / 2)."""
        laterals = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        descending = [laterals.pop()]
        for stage, level in zip(self.top_down, reversed(laterals)):
            upsampled = F.interpolate(descending[-1], size=level.shape[-2:], mode="nearest")
            descending.append(stage(torch.cat([level, upsampled], 1)))
        ascending = [descending.pop()]
        for stage, downsample, level in zip(self.bottom_up, self.downsample, reversed(descending)):
            ascending.append(stage(torch.cat([downsample(ascending[-1]), level], 1)))
        return ascending


class FPN(nn.Module):
    """Feature pyramid network: a top-down pathway with lateral connections, as in torchvision.

    Source: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017; torchvision.ops.FeaturePyramidNetwork.

    Args:
        in_channels: Channels of the levels, shallow to deep.
        channels: Channels of every output level.
        extra: Add a level of twice the deepest stride by taking every second cell of the last one.
        norm: Builds the norms after the convolutions; None for no norms.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        extra: bool = False,
        norm: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__()
        extra_level = LastLevelMaxPool() if extra else None
        self.pyramid = FeaturePyramidNetwork(list(in_channels), channels, extra_level, norm_layer=norm)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, in_channels[i], H_i, W_i) to as many (B, channels, H_i, W_i), and the extra one."""
        named = {str(i): level for i, level in enumerate(levels)}
        return list(self.pyramid(named).values())
