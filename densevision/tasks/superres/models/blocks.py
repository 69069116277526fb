"""What several families are made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def steps_of(scale: int) -> list[int]:
    """The factors by which a network enlarges, one after the other.

    >>> steps_of(8), steps_of(3), steps_of(1)
    ([2, 2, 2], [3], [])
    """
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


class ShuffleTail(nn.Sequential):
    """Enlarges by convolutions whose channels become neighboring pixels, in steps of 2 or 3.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution, CVPR 2016, eq. 4.
    """

    def __init__(self, width: int, scale: int):
        layers: list[nn.Module] = []
        for step in steps_of(scale):
            layers += [conv3x3(width, width * step**2), nn.PixelShuffle(step)]
        super().__init__(*layers)


def padded_to(image: Tensor, multiple: int) -> Tensor:
    """The image with its last row and column repeated until both sides are multiples.

    Args:
        image: (B, C, H, W).
        multiple: Of this.
    """
    if multiple == 1:
        return image
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
