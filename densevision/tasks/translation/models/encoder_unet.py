"""A generator on any timm encoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from densevision.nn.unet import UNetDecoder
from densevision.tasks.translation.models.layers import NoisyDropout, Norm, init_weights


class EncoderUNet(nn.Module):
    """The encoder's levels to an image: a U-Net's way up, dropout on its deepest level, and a last convolution.

    Args:
        channels: Channels of every level, the image's first.
        outputs: Channels of the answer.
        width: Channels of the decoder at the image's own size.
        norm: Builds the norm of a number of channels.
        dropout: Share of the deepest features that is set to zero.
        noise: Seed of the dropout in evaluation; None turns it off there.
    """

    def __init__(
        self, channels: Sequence[int], outputs: int, width: int, norm: Norm, dropout: float, noise: int | None
    ):
        super().__init__()
        noises = None if noise is None else (noise, 0)
        self.dropout = NoisyDropout(dropout, channels[-1], noises) if dropout else nn.Identity()
        self.decoder = UNetDecoder(channels, width, norm)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        init_weights(self)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels, the image (B, C, H, W) first, to (B, outputs, H, W) from -1 to 1."""
        answer = self.last(self.decoder([*levels[:-1], self.dropout(levels[-1])]))
        return answer.float().tanh()  # half precision would round the image
