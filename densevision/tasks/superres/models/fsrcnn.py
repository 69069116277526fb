"""FSRCNN: shrink, map, expand, and enlarge only at the end."""

from __future__ import annotations

from torch import Tensor, nn


class FSRCNN(nn.Module):
    """FSRCNN(d, s, m): feature extraction, m mappings in a space of s channels, and one transposed convolution.

    Source: Dong et al., Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016, section 3.

    Args:
        channels: Of the image.
        scale: How many times larger.
        width: d, channels of the features.
        depth: m, number of mappings.
        narrow: s, channels of the mappings.
    """

    def __init__(self, channels: int, scale: int, width: int = 56, depth: int = 4, narrow: int = 12):
        super().__init__()
        # The transposed kernel of 9 spreads each cell over 4 output pixels to either side.
        self.receptive_field_radius = 2 + depth + 4 // scale + 1
        mappings = [
            layer for _ in range(depth) for layer in (nn.Conv2d(narrow, narrow, 3, padding=1), nn.PReLU(narrow))
        ]
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.PReLU(width),
            nn.Conv2d(width, narrow, 1),
            nn.PReLU(narrow),
            *mappings,
            nn.Conv2d(narrow, width, 1),
            nn.PReLU(width),
        )
        self.enlarge = nn.ConvTranspose2d(width, channels, 9, scale, padding=4, output_padding=scale - 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W)."""
        return self.enlarge(self.features(image))
