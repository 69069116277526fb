"""DPT: levels are brought to one width and fused from the deepest up, each fusion doubling the resolution.

Source: Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021, section 3.1 and figure 1; the blocks are
those of RefineNet (Lin et al., CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError

FACTORS = (4, 2, 1, 0.5)
"""Sides of the four levels that are made of tokens, relative to the grid of patches."""
HIDDEN = 32
"""Channels before the last convolution."""


class Reassemble(nn.Module):
    """Four maps of tokens to a pyramid: projected, then enlarged or made smaller by a convolution.

    Args:
        channels: Channels of each map.
        widths: Channels of each level, shallow to deep.
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths)
        self.resize = nn.ModuleList(_resize(width, factor) for width, factor in zip(widths, FACTORS))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, channels, h, w) to levels (B, widths[i], about FACTORS[i] * h, FACTORS[i] * w)."""
        return [resize(project(level)) for level, project, resize in zip(maps, self.project, self.resize)]


class Refine(nn.Module):
    """Two 3x3 convolutions before an identity, each after its activation."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Fusion(nn.Module):
    """Joins what comes from below with a level, and enlarges it.

    Args:
        width: Channels in and out.
        lateral: Whether a level is joined; the deepest fusion has none from below.
    """

    def __init__(self, width: int, lateral: bool):
        super().__init__()
        self.lateral = Refine(width) if lateral else None
        self.refine = Refine(width)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, below: Tensor, level: Tensor | None, size: Sequence[int]) -> Tensor:
        """(B, width, h, w), and a level of the same shape where there is one, to (B, width, *size)."""
        if self.lateral is not None and level is not None:
            below = below + self.lateral(level)
        enlarged = F.interpolate(self.refine(below), size, mode="bilinear", align_corners=True)
        return self.project(enlarged)


class DPT(nn.Module):
    """From the levels of a pyramid, or from the token maps of a plain transformer, to one number per pixel.

    Args:
        channels: Channels of the encoder's levels, the image's first.
        strides: Their strides; four that are the same are maps of tokens.
        width: Channels of every fusion.
        reassemble: Channels of the levels that are made of tokens; eighths to the whole of the tokens' when not given.

    Raises:
        UsageError: The encoder has no four levels below the image.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], width: int, reassemble: Sequence[int] | None = None
    ):
        super().__init__()
        if len(channels) < 5:
            hint = "Take a backbone with levels of stride 4, 8, 16 and 32."
            raise UsageError("dpt needs four levels", field="backbone.name", value=list(strides), hint=hint)
        channels = list(channels[-4:])
        self.reassemble = None
        if strides[-1] == strides[-4]:
            widths = list(reassemble or (channels[0] // part for part in (8, 4, 2, 1)))
            self.reassemble, channels = Reassemble(channels[0], widths), widths
        self.enter = nn.ModuleList(nn.Conv2d(count, width, 3, padding=1, bias=False) for count in channels)
        self.fusions = nn.ModuleList(Fusion(width, lateral) for lateral in (False, True, True, True))
        self.shrink = nn.Conv2d(width, width // 2, 3, padding=1)
        self.mix = nn.Conv2d(width // 2, HIDDEN, 3, padding=1)
        self.predict = nn.Conv2d(HIDDEN, 1, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The image and its levels to raw numbers (B, 1, H, W), at the image's size."""
        size = levels[0].shape[-2:]
        deep = levels[-4:] if self.reassemble is None else self.reassemble(levels[-4:])
        entered = [enter(level) for enter, level in zip(self.enter, deep)][::-1]
        finest = entered[-1].shape[-2:]
        sizes = [*(level.shape[-2:] for level in entered[1:]), (2 * finest[0], 2 * finest[1])]
        x = entered[0]
        for fuse, level, larger in zip(self.fusions, entered, sizes):
            x = fuse(x, level, larger)
        x = F.interpolate(self.shrink(x), size, mode="bilinear", align_corners=True)
        return self.predict(F.relu(self.mix(x)))


def _resize(width: int, factor: float) -> nn.Module:
    if factor > 1:
        return nn.ConvTranspose2d(width, width, int(factor), stride=int(factor))
    return nn.Identity() if factor == 1 else nn.Conv2d(width, width, 3, stride=round(1 / factor), padding=1)
