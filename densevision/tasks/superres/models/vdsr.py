"""VDSR: a deep network that adds detail to the enlarged image, the same weights for every scale."""

from __future__ import annotations

import math

from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.ops.imresize import enlarge
from densevision.tasks.superres.models.blocks import conv3x3
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["VDSR"]


class VDSR(SuperresModel):
    """Twenty 3x3 convolutions, whose output is added to the bicubic enlargement.

    Source: Kim et al., Accurate Image Super-Resolution Using Very Deep Convolutional Networks, CVPR 2016, section 3.

    Args:
        scale: Output pixels per input pixel.
        in_channels: Channels of the image.
        width: Channels of the features.
        depth: Number of convolutions, at least 2.
        criterion: See `SuperresModel`.

    Raises:
        UsageError: The depth is below 2.
    """

    def __init__(
        self,
        scale: int = 2,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 20,
        criterion: nn.Module | None = None,
    ):
        if depth < 2:
            raise UsageError("is at least 2", field="model.depth", value=depth)
        super().__init__(scale, in_channels, criterion=criterion)
        self.radius = math.ceil(depth / scale) + 3
        layers: list[nn.Module] = [conv3x3(in_channels, width), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [conv3x3(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, conv3x3(width, in_channels))
        for layer in self.layers[:-1:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        enlarged = enlarge(image, self.scale)
        return enlarged + self.layers(enlarged)
