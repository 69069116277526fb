"""Layers that several super-resolution networks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ShuffleTail", "compute_steps", "conv3x3", "pad_to_multiple"]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def compute_steps(scale: int) -> list[int]:
    """The factors by which a network enlarges, one after the other.

    >>> compute_steps(8), compute_steps(3), compute_steps(1)
    ([2, 2, 2], [3], [])
    """
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


class ShuffleTail(nn.Sequential):
    """Enlarges by sub-pixel convolutions, in steps of 2 or 3.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution, CVPR 2016, eq. 4.
    """

    def __init__(self, width: int, scale: int):
        layers: list[nn.Module] = []
        for step in compute_steps(scale):
            layers += [conv3x3(width, width * step**2), nn.PixelShuffle(step)]
        super().__init__(*layers)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column of a (B, C, H, W) image until both sides are multiples."""
    if multiple == 1:
        return image
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
