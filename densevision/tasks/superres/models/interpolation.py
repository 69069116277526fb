"""Interpolation as a network without weights: the baseline that every other has to beat."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.ops.imresize import Kernel, enlarge


class Interpolation(nn.Module):
    """Enlarges as MATLAB's `imresize`; at scale 1 it gives the image back.

    Args:
        scale: How many times larger.
        kernel: Of the interpolation.
    """

    receptive_field_radius = 2

    def __init__(self, scale: int, kernel: Kernel = "bicubic"):
        super().__init__()
        self.scale, self.kernel = scale, kernel

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        return enlarge(image, self.scale, self.kernel)
