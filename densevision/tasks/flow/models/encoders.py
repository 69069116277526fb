"""The feature and context encoders of RAFT.

Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020, section 3.1 and
figure 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from densevision.nn.normalization import normalize_image

__all__ = [
    "BottleneckBlock",
    "ConvEncoder",
    "InstanceNorm",
    "RaftEncoder",
    "ResidualBlock",
    "conv_norm_relu",
    "no_norm",
]

STRIDE = 8
"""Pixels per cell of the features of the published networks."""

Norm = Callable[[int], nn.Module]

_STEPS = {8: (1, 2, 2), 4: (2, 1, 1)}
"""Strides of the three stages; the stem halves the image before them."""


class RaftEncoder(nn.Module):
    """RAFT's feature encoder as a pyramid of two levels: the image itself, and its features.

    Args:
        widths: Channels of the stem, of the three stages, and of the features.
        bottleneck: Whether the blocks are RAFT-small's.
        channels: Channels of the image.
        stride: Pixels per cell of the features, 4 or 8.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[int], bottleneck: bool, channels: int = 3, stride: int = STRIDE):
        super().__init__()
        self.channels = [channels, widths[-1]]
        self.strides = [1, stride]
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 0.5), persistent=False)
        self.register_buffer("std", torch.full((1, channels, 1, 1), 0.5), persistent=False)
        self.features = ConvEncoder(widths, bottleneck, InstanceNorm, channels, stride)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) in [0, 1] to the image and its features (B, D, H / stride, W / stride)."""
        return [image, self.features(normalize_image(image, self.mean, self.std))]


class ConvEncoder(nn.Module):
    """A stem and three stages of two residual blocks.

    Args:
        widths: Channels of the stem, of the three stages, and of the output.
        bottleneck: Whether the blocks are RAFT-small's.
        norm: Builds the norm of a number of channels: instance norm for features, batch norm or none for context.
        channels: Channels of the image.
        stride: 8 as published; 4 has its only stride after the stem in the first stage, so that most of the work is
            done on small maps.
    """

    def __init__(self, widths: Sequence[int], bottleneck: bool, norm: Norm, channels: int = 3, stride: int = STRIDE):
        super().__init__()
        block = BottleneckBlock if bottleneck else ResidualBlock
        self.stem = conv_norm_relu(channels, widths[0], 7, norm, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(block(before, after, norm, step), block(after, after, norm))
            for before, after, step in zip(widths, widths[1:4], _STEPS[stride])
        )
        self.project = nn.Conv2d(widths[3], widths[4], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] to (B, widths[4], H / stride, W / stride)."""
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return self.project(x)


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut, all with activations."""

    def __init__(self, before: int, after: int, norm: Norm, stride: int = 1):
        super().__init__()
        self.convolutions = nn.Sequential(
            conv_norm_relu(before, after, 3, norm, stride),
            conv_norm_relu(after, after, 3, norm),
        )
        self.shortcut = _shortcut(before, after, norm, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return torch.relu_(self.shortcut(x) + self.convolutions(x))


class BottleneckBlock(nn.Module):
    """Three convolutions, the middle one at a quarter of the width, with a shortcut."""

    def __init__(self, before: int, after: int, norm: Norm, stride: int = 1):
        super().__init__()
        self.convolutions = nn.Sequential(
            conv_norm_relu(before, after // 4, 1, norm),
            conv_norm_relu(after // 4, after // 4, 3, norm, stride),
            conv_norm_relu(after // 4, after, 1, norm),
        )
        self.shortcut = _shortcut(before, after, norm, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return torch.relu_(self.shortcut(x) + self.convolutions(x))


def conv_norm_relu(before: int, after: int, kernel: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    """A convolution with norm and activation.

    It has a bias despite the norm: the published weights were fine-tuned with frozen norms.
    """
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, kernel // 2), norm(after), nn.ReLU(inplace=True))


class InstanceNorm(nn.GroupNorm):
    """RAFT's instance norm of features; as group norm it keeps the memory format, which is ten times as fast.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same, each channel of each image with mean 0 and deviation 1."""
        if x.requires_grad and x.device.type == "cpu":
            # PyTorch's backward pass of this norm on the CPU is four times slower in bfloat16 than in float32.
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


def no_norm(channels: int) -> nn.Module:
    """RAFT-small's context encoder has no norms."""
    return nn.Identity()


def _shortcut(before: int, after: int, norm: Norm, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride), norm(after))
