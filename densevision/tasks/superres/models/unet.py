"""A U-Net on any timm encoder, with a shuffling tail where it enlarges."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from densevision.nn.unet import UNetDecoder
from densevision.tasks.superres.models.blocks import ShuffleTail, conv3x3


class UNet(nn.Module):
    """The encoder's levels to an image.

    Args:
        channels: Channels of every level, the image's first.
        scale: How many times larger.
        width: Channels of the decoder at the image's own size.
    """

    receptive_field_radius = None

    def __init__(self, channels: Sequence[int], scale: int, width: int = 32):
        super().__init__()
        self.decoder = UNetDecoder(channels, width)
        self.tail = nn.Sequential(ShuffleTail(width, scale), conv3x3(width, channels[0]))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels, the image (B, C, H, W) first, to (B, C, scale * H, scale * W)."""
        return self.tail(self.decoder(levels))
