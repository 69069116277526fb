"""NAFNet: restoration at scale 1 without nonlinear activations."""

from __future__ import annotations

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.tasks.superres.models.blocks import conv3x3, pad_to_multiple
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["NAFNet"]

LEVELS = 4
"""How often the image is halved."""
EPSILON = 1e-6


class SimpleGate(nn.Module):
    """Half of the channels times the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 * C, H, W) to (B, C, H, W)."""
        first, second = x.chunk(2, 1)
        return first * second


class ChannelAttention(nn.Module):
    """Multiplies each channel by a linear function of all channels' means over the image."""

    def __init__(self, width: int):
        super().__init__()
        self.weigh = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x * self.weigh(x.mean((2, 3), keepdim=True))


class NAFBlock(nn.Module):
    """A gated depthwise convolution with channel attention, then a gated point-wise one; both as scaled residuals.

    Source: Chen et al., Simple Baselines for Image Restoration, ECCV 2022, section 4 and figure 3.
    """

    def __init__(self, width: int):
        super().__init__()
        double = 2 * width
        self.spatial = nn.Sequential(
            LayerNorm2d(width, eps=EPSILON),
            nn.Conv2d(width, double, 1),
            nn.Conv2d(double, double, 3, padding=1, groups=double),
            SimpleGate(),
            ChannelAttention(width),
            nn.Conv2d(width, width, 1),
        )
        self.pointwise = nn.Sequential(
            LayerNorm2d(width, eps=EPSILON), nn.Conv2d(width, double, 1), SimpleGate(), nn.Conv2d(width, width, 1)
        )
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        x = x + self.spatial(x) * self.beta
        return x + self.pointwise(x) * self.gamma


class NAFNet(SuperresModel):
    """A U of four levels whose blocks have gates instead of activations; its output is added to the image.

    As in the paper's network for deblurring, nearly all blocks are on the deepest level of the encoder.

    Args:
        scale: Must be 1.
        in_channels: Channels of the image.
        width: Channels of the first level; each deeper one has twice as many.
        depth: Blocks on the deepest level of the encoder.
        criterion: See `SuperresModel`.

    Raises:
        UsageError: Another scale is requested.
    """

    def __init__(
        self,
        scale: int = 1,
        in_channels: int = 3,
        width: int = 32,
        depth: int = 28,
        criterion: nn.Module | None = None,
    ):
        if scale != 1:
            hint = "Set scale to 1, or use another arch."
            raise UsageError("nafnet restores at scale 1", field="scale", value=scale, hint=hint)
        super().__init__(scale, in_channels, criterion=criterion)
        self.limit_sides(multiple_of=1 << LEVELS)
        counts = [1] * (LEVELS - 1) + [depth]
        widths = [width << level for level in range(LEVELS + 1)]
        self.first = conv3x3(in_channels, width)
        self.encoders = nn.ModuleList(_build_blocks(wide, count) for wide, count in zip(widths, counts))
        self.downs = nn.ModuleList(nn.Conv2d(wide, 2 * wide, 2, 2) for wide in widths[:-1])
        self.middle = _build_blocks(widths[-1], 1)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * wide, 4 * wide, 1, bias=False), nn.PixelShuffle(2)) for wide in widths[-2::-1]
        )
        self.decoders = nn.ModuleList(_build_blocks(wide, 1) for wide in widths[-2::-1])
        self.last = conv3x3(width, in_channels)

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        height, width = image.shape[-2:]
        x = self.first(pad_to_multiple(image, 1 << LEVELS))
        skips = []
        for encoder, down in zip(self.encoders, self.downs):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(up(x) + skip)
        return image + self.last(x)[..., :height, :width]


def _build_blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(width) for _ in range(count)))
