"""Necks: levels of a pyramid exchange what they know."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densevision.nn.blocks import PartialStage, conv


class PAN(nn.Module):
    """Path aggregation: from deep to shallow, then from shallow to deep.

    Source: Liu et al., Path Aggregation Network, CVPR 2018, with cross-stage partial stages for convolutions.

    Args:
        channels: Channels of the levels, shallow to deep.
        width: Channels of every level that comes out.
        depth: Residual blocks per stage.
    """

    def __init__(self, channels: Sequence[int], width: int, depth: int):
        super().__init__()
        steps = range(len(channels) - 1)
        self.lateral = nn.ModuleList(conv(count, width, kernel=1) for count in channels)
        self.top_down = nn.ModuleList(PartialStage(2 * width, width, depth) for _ in steps)
        self.shrink = nn.ModuleList(conv(width, width, stride=2) for _ in steps)
        self.bottom_up = nn.ModuleList(PartialStage(2 * width, width, depth) for _ in steps)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, H, W), each half the size of the one before (rounded up), to as many of `width` channels."""
        levels = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        for index in reversed(range(len(self.top_down))):
            above = F.interpolate(levels[index + 1], size=levels[index].shape[-2:], mode="nearest")
            levels[index] = self.top_down[index](torch.cat([levels[index], above], 1))
        for index, (shrink, stage) in enumerate(zip(self.shrink, self.bottom_up)):
            levels[index + 1] = stage(torch.cat([levels[index + 1], shrink(levels[index])], 1))
        return levels


class FPN(nn.Module):
    """The feature pyramid network of two-stage detectors: torchvision's, over a list.

    Source: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.

    Args:
        channels: Channels of the levels, shallow to deep.
        width: Channels of every level that comes out.
        extra: Add a level of half the size to the deepest, by max pooling.
    """

    def __init__(self, channels: Sequence[int], width: int, extra: bool = True):
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(list(channels), width, LastLevelMaxPool() if extra else None)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, H, W) to as many, or one more, of `width` channels."""
        return list(self.pyramid(OrderedDict((str(index), level) for index, level in enumerate(levels))).values())
