"""A U-Net on any timm backbone, with sub-pixel convolutions where it enlarges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from densevision.nn.backbone import Backbone
from densevision.nn.unet import UNetDecoder
from densevision.tasks.superres.models.blocks import ShuffleTail, conv3x3
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["SuperresUNet"]

DEEPEST_STRIDE = 32


class SuperresUNet(SuperresModel):
    """The levels of a timm backbone to an image.

    Args:
        scale: Output pixels per input pixel: 1, 2, 3, 4, 8 or 16.
        in_channels: Channels of the image.
        encoder: A timm model.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        width: Channels of the decoder at the size of the input.
        options: Further arguments of `SuperresModel`.
    """

    def __init__(
        self,
        scale: int = 2,
        in_channels: int = 3,
        encoder: str = "mobilenetv2_100",
        encoder_options: Mapping[str, Any] | None = None,
        width: int = 32,
        **options: Any,
    ):
        super().__init__(scale, in_channels, **options)
        self.limit_sides(multiple_of=DEEPEST_STRIDE)
        self.encoder = Backbone(encoder, in_channels, **(encoder_options or {}))
        self.decoder = UNetDecoder(self.encoder.channels, width)
        self.tail = nn.Sequential(ShuffleTail(width, scale), conv3x3(width, in_channels))

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.tail(self.decoder(self.encoder(image)))
