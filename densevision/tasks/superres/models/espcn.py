"""ESPCN: three convolutions at the size of the input, and a pixel shuffle."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["ESPCN"]


class ESPCN(SuperresModel):
    """5-3-3 convolutions with 64 and 32 channels; the last one predicts the scale x scale pixels of each cell.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network, CVPR 2016, section 3.

    Args:
        scale: Output pixels per input pixel.
        in_channels: Channels of the image.
        residual: Add the output to the bicubic enlargement of the image.
        criterion: See `SuperresModel`.
    """

    def __init__(
        self, scale: int = 2, in_channels: int = 3, residual: bool = False, criterion: nn.Module | None = None
    ):
        super().__init__(scale, in_channels, radius=4, residual=residual, criterion=criterion)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 64, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(32, in_channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        return self.layers(image)
