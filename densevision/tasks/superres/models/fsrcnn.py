"""FSRCNN: shrink, map and expand the features; enlarge only at the end."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["FSRCNN"]

KERNEL = 9
"""Side of the transposed convolution."""


class FSRCNN(SuperresModel):
    """FSRCNN(d, s, m): features, m mappings with s channels, and one transposed convolution.

    Source: Dong et al., Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016, section 3.

    Args:
        scale: Output pixels per input pixel, at most 8.
        in_channels: Channels of the image.
        width: d, channels of the features.
        depth: m, number of mappings.
        mapping_width: s, channels of the mappings.
        options: Further arguments of `SuperresModel`.

    Raises:
        UsageError: The kernel does not cover the scale.
    """

    def __init__(
        self,
        scale: int = 2,
        in_channels: int = 3,
        width: int = 56,
        depth: int = 4,
        mapping_width: int = 12,
        **options: Any,
    ):
        if scale >= KERNEL:
            hint = "Use another arch, or a scale up to 8."
            raise UsageError(f"the kernel of {KERNEL} does not cover the scale", field="scale", value=scale, hint=hint)
        super().__init__(scale, in_channels, **options)
        # The transposed kernel spreads each cell over 4 output pixels to either side.
        self.radius = 2 + depth + 4 // scale + 1
        mappings: list[nn.Module] = []
        for _ in range(depth):
            mappings += [nn.Conv2d(mapping_width, mapping_width, 3, padding=1), nn.PReLU(mapping_width)]
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, padding=2),
            nn.PReLU(width),
            nn.Conv2d(width, mapping_width, 1),
            nn.PReLU(mapping_width),
            *mappings,
            nn.Conv2d(mapping_width, width, 1),
            nn.PReLU(width),
        )
        self.enlarge = nn.ConvTranspose2d(width, in_channels, KERNEL, scale, padding=4, output_padding=scale - 1)

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.enlarge(self.features(image))
