"""Interpolation as a network without weights: the baseline of super-resolution."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.ops.imresize import Kernel, enlarge
from densevision.tasks.superres.models.superres_model import BICUBIC_RADIUS, SuperresModel

__all__ = ["Interpolation"]


class Interpolation(SuperresModel):
    """Enlarges like MATLAB's `imresize`; at scale 1 it returns the image.

    Args:
        scale: Output pixels per input pixel.
        in_channels: Channels of the image.
        kernel: The interpolation kernel.
        criterion: See `SuperresModel`.
    """

    def __init__(
        self, scale: int = 2, in_channels: int = 3, kernel: Kernel = "bicubic", criterion: nn.Module | None = None
    ):
        super().__init__(scale, in_channels, criterion=criterion)
        self.radius = BICUBIC_RADIUS
        self.kernel = kernel

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return enlarge(image, self.scale, self.kernel)
