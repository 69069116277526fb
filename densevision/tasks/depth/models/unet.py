"""A U-Net's way up that can be heard at several scales, for losses at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.blocks import ConvNormAct

SCALES = 4
"""Finest steps that can be heard."""
WIDEST = 256
"""Most channels of a step."""


class UNet(nn.Module):
    """Step by step up a pyramid: enlarge, convolve, join with the level of that size, convolve.

    Source: Ronneberger et al., U-Net, MICCAI 2015; predictions at the four finest steps as in Godard et al.,
    Unsupervised Monocular Depth Estimation with Left-Right Consistency, CVPR 2017, table 1 of the supplement.

    Args:
        channels: Channels of the encoder's levels, the image's first.
        strides: Their strides, rising.
        width: Channels at stride 4; a step below has twice as many, a step above half.
        finest: Stride of the last step; 1 joins the image itself.
        outputs: Numbers per pixel.
        scales: How many of the finest steps predict.

    Raises:
        UsageError: The encoder has fewer levels than that.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int,
        finest: int,
        outputs: int = 1,
        scales: int = 1,
    ):
        super().__init__()
        joined = [level for level, stride in enumerate(strides[:-1]) if stride >= finest][::-1]
        if len(joined) < scales or len(set(strides)) < len(strides):
            hint = "Take a backbone with levels of stride 2, 4, 8, 16 and 32, or a smaller finest."
            raise UsageError("unet needs more levels", field="backbone.name", value=list(strides), hint=hint)
        self.joined = joined
        widths = [max(8, min(WIDEST, width * strides[level] // 4)) for level in joined]
        below = [channels[-1], *widths[:-1]]
        self.enlarge = nn.ModuleList(ConvNormAct(deep, wide) for deep, wide in zip(below, widths))
        self.join = nn.ModuleList(ConvNormAct(wide + channels[level], wide) for wide, level in zip(widths, joined))
        self.predict = nn.ModuleList(nn.Conv2d(wide, outputs, 3, padding=1) for wide in widths[-scales:])

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The image and its levels to raw numbers (B, outputs, h, w) of each scale, the finest first."""
        x, answers = levels[-1], []
        silent = len(self.joined) - len(self.predict)
        for step, (level, enlarge, join) in enumerate(zip(self.joined, self.enlarge, self.join)):
            skip = levels[level]
            x = F.interpolate(enlarge(x), skip.shape[-2:], mode="nearest")
            x = join(torch.cat([x, skip], 1))
            if step >= silent:
                answers.append(self.predict[step - silent](x))
        return answers[::-1]
