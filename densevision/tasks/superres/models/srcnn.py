"""SRCNN: three convolutions on the enlarged image."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from densevision.ops.imresize import enlarge
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["SRCNN"]


class SRCNN(SuperresModel):
    """Patch extraction, non-linear mapping and reconstruction, 9-1-5.

    Source: Dong et al., Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016, section 3; here zero
    padding keeps the size, and all channels are restored.

    Args:
        scale, in_channels, options: Those of `SuperresModel`.
    """

    def __init__(self, scale: int = 2, in_channels: int = 3, **options: Any):
        super().__init__(scale, in_channels, **options)
        self.radius = math.ceil((4 + 2) / scale) + 3
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
