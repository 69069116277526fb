"""ESPCN: three convolutions on the small image, and sub-pixel convolution."""

from __future__ import annotations

from torch import Tensor, nn


class ESPCN(nn.Module):
    """5-3-3 with 64 and 32 channels; each output cell holds the scale x scale pixels that it becomes.

    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network, CVPR 2016, section 3.

    Args:
        channels: Of the image.
        scale: How many times larger.
    """

    receptive_field_radius = 4

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(32, channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        return self.layers(image)
