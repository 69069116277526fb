"""U-Net decoder on any feature pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["UNetDecoder"]


class UNetDecoder(nn.Module):
    """Upsamples from the deepest level, joins with each next level, and convolves twice; level 0 is the image.

    Source: Ronneberger et al., U-Net, MICCAI 2015, with levels of any strides.

    Args:
        channels: Channels of every level, shallow to deep, the image's first.
        width: Channels of the output; each level has twice as many as the one above it, up to `max_width`.
        norm: Builds the norm of a number of channels; none by default.
        max_width: Maximum channels of a level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int = 32,
        norm: Callable[[int], nn.Module] = nn.Identity,
        max_width: int = 512,
    ):
        super().__init__()
        self.channels = width
        widths = [min(width << level, max_width) for level in range(len(channels) - 1)]
        inputs = [*widths[1:], channels[-1]]
        steps = zip(channels[:-1], inputs, widths)
        self.steps = nn.ModuleList(_make_step(skip + below, wide, norm) for skip, below, wide in steps)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, channels[i], h_i, w_i), shallow to deep, to (B, width, H, W) at the size of the first one."""
        x = levels[-1]
        for skip, step in zip(reversed(levels[:-1]), reversed(self.steps)):
            x = step(torch.cat([skip, F.interpolate(x, skip.shape[-2:], mode="nearest")], 1))
        return x


def _make_step(inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (inputs, outputs):
        layers += [nn.Conv2d(count, outputs, 3, padding=1), norm(outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
