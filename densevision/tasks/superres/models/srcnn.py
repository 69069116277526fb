"""SRCNN: three convolutions on the enlarged image."""

from __future__ import annotations

import math

from torch import Tensor, nn

from densevision.ops.imresize import enlarge
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["SRCNN"]


class SRCNN(SuperresModel):
    """Patch extraction, non-linear mapping and reconstruction, 9-1-5.

    Source: Dong et al., Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016, section 3; here zero
    padding keeps the size, and all channels are restored.

    Args:
        scale: Output pixels per input pixel.
        in_channels: Channels of the image.
        residual: Add the output to the bicubic enlargement of the image.
        criterion: See `SuperresModel`.
    """

    def __init__(
        self, scale: int = 2, in_channels: int = 3, residual: bool = False, criterion: nn.Module | None = None
    ):
        radius = math.ceil((4 + 2) / scale) + 3
        super().__init__(scale, in_channels, radius=radius, residual=residual, criterion=criterion)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 64, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(64, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, in_channels, 5, padding=2),
        )

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.layers(enlarge(image, self.scale))
