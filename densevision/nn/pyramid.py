"""Simple feature pyramid of a plain transformer."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn

__all__ = ["SimpleFeaturePyramid"]


class SimpleFeaturePyramid(nn.Module):
    """Makes levels of several strides of one feature map.

    A finer level comes from transposed convolutions that halve the channels, a coarser one from max-pooling; each ends
    in a 1x1 and a 3x3 convolution with layer norms.

    Source: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022, section 3.

    Args:
        channels: Channels of the map.
        stride: Stride of the map, a power of two.
        strides: Strides of the levels, powers of two.
        width: Channels of every level.
    """

    def __init__(self, channels: int, stride: int, strides: Sequence[int], width: int = 256):
        super().__init__()
        self.channels = [width] * len(strides)
        self.levels = nn.ModuleList(_make_level(channels, stride, target, width) for target in strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, channels, H, W) to one (B, width, ceil(H * stride / s), ceil(W * stride / s)) per target stride s."""
        return [level(x) for level in self.levels]


def _make_level(channels: int, stride: int, target: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    while stride > target:
        layers += [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)]
        channels, stride = channels // 2, stride // 2
        if stride > target:
            layers += [LayerNorm2d(channels), nn.GELU()]
    while stride < target:
        layers += [nn.MaxPool2d(2, ceil_mode=True)]
        stride *= 2
    layers += [nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width)]
    layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)]
    return nn.Sequential(*layers)
