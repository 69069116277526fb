"""DPT's decoder: levels of any pyramid, or token maps of a plain transformer, fused from coarse to fine.

Source: Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021, section 3.1 and figure 1; the blocks are
those of RefineNet (Lin et al., CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.tasks.depth.models.depth_model import DepthModel, TargetKind, pyramid_input_spec

__all__ = ["DPTDecoder", "DepthDPT", "FeatureFusionBlock", "Reassemble", "ResidualConvUnit"]

LEVEL_SCALES = (4, 2, 1, 0.5)
"""Sides of the four levels that are made of token maps, relative to the grid of patches."""
OUTPUT_CHANNELS = 32
"""Channels before the last convolution."""


class DepthDPT(DepthModel):
    """DPT's fusion decoder on the four deepest levels of a pyramid.

    Args:
        encoder: A timm model.
        in_channels: Channels of the image.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        width: Channels of every fusion block.
        image_size: Resize the shorter side of images to this many pixels; None keeps their size.
        target_kind: What the numbers are.
        max_depth: Largest depth in meters, or disparity in pixels; None for no bound.
        criterion: The losses; `DepthCriterion()` by default.

    Raises:
        UsageError: The encoder has fewer than four levels below the image.
    """

    def __init__(
        self,
        encoder: str = "mobilenetv2_100",
        in_channels: int = 3,
        encoder_options: Mapping[str, Any] | None = None,
        width: int = 64,
        image_size: int | None = None,
        target_kind: TargetKind = "metric",
        max_depth: float | None = 10.0,
        criterion: nn.Module | None = None,
    ):
        backbone = Backbone(encoder, in_channels, **(encoder_options or {}))
        decoder = DPTDecoder(backbone.channels, backbone.strides, width)
        spec = pyramid_input_spec(in_channels, image_size)
        super().__init__(backbone, decoder, [decoder.conv3], spec, target_kind, max_depth, criterion)


class DPTDecoder(nn.Module):
    """Fuses four levels from coarse to fine, and predicts one number per pixel.

    Args:
        channels: Channels of the encoder's levels, the image's first.
        strides: Their strides; four equal ones are token maps.
        width: Channels of every fusion block.
        reassemble_channels: Channels of the levels that are made of token maps; 1/8, 1/4, 1/2 and all of the tokens'
            by default.

    Raises:
        UsageError: The encoder has fewer than four levels below the image.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int,
        reassemble_channels: Sequence[int] | None = None,
    ):
        super().__init__()
        if len(channels) < 5:
            hint = "Use a backbone with levels of stride 4, 8, 16 and 32."
            raise UsageError("DPT needs four levels", field="backbone.name", value=list(strides), hint=hint)
        channels = list(channels[-4:])
        self.reassemble = None
        if strides[-1] == strides[-4]:
            widths = list(reassemble_channels or (channels[0] // divisor for divisor in (8, 4, 2, 1)))
            self.reassemble, channels = Reassemble(channels[0], widths), widths
        self.convs = nn.ModuleList(nn.Conv2d(count, width, 3, padding=1, bias=False) for count in channels)
        self.fusions = nn.ModuleList(FeatureFusionBlock(width, has_skip) for has_skip in (False, True, True, True))
        self.conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(width // 2, OUTPUT_CHANNELS, 3, padding=1)
        self.conv3 = nn.Conv2d(OUTPUT_CHANNELS, 1, 1)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The image and its levels to raw predictions [(B, 1, H, W)] of the image's size."""
        size = levels[0].shape[-2:]
        deep = levels[-4:] if self.reassemble is None else self.reassemble(levels[-4:])
        coarse_to_fine = [conv(level) for conv, level in zip(self.convs, deep)][::-1]
        finest = coarse_to_fine[-1].shape[-2:]
        sizes = [*(level.shape[-2:] for level in coarse_to_fine[1:]), (2 * finest[0], 2 * finest[1])]
        x = coarse_to_fine[0]
        for fusion, level, larger in zip(self.fusions, coarse_to_fine, sizes):
            x = fusion(x, level, larger)
        x = F.interpolate(self.conv1(x), size, mode="bilinear", align_corners=True)
        return [self.conv3(F.relu(self.conv2(x)))]


class Reassemble(nn.Module):
    """Makes a pyramid of four token maps: projects each, then enlarges or shrinks it by a convolution.

    Args:
        channels: Channels of each map.
        widths: Channels of each level, shallow to deep.
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths)
        self.resize = nn.ModuleList(_make_resize(width, scale) for width, scale in zip(widths, LEVEL_SCALES))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, channels, h, w) to levels (B, widths[i], ~LEVEL_SCALES[i] * h, ~LEVEL_SCALES[i] * w)."""
        return [resize(project(level)) for level, project, resize in zip(maps, self.project, self.resize)]


class ResidualConvUnit(nn.Module):
    """Two pre-activated 3x3 convolutions with a shortcut: (B, width, H, W) to the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class FeatureFusionBlock(nn.Module):
    """Adds a level to the coarser features, refines the sum and enlarges it.

    Args:
        width: Channels of input and output.
        has_skip: Whether a level is added; the deepest block only refines.
    """

    def __init__(self, width: int, has_skip: bool):
        super().__init__()
        self.residual1 = ResidualConvUnit(width) if has_skip else None
        self.residual2 = ResidualConvUnit(width)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, level: Tensor, size: Sequence[int]) -> Tensor:
        """Coarse features (B, width, h, w) and a level of the same shape to (B, width, *size)."""
        if self.residual1 is not None:
            x = x + self.residual1(level)
        enlarged = F.interpolate(self.residual2(x), size, mode="bilinear", align_corners=True)
        return self.project(enlarged)


def _make_resize(width: int, scale: float) -> nn.Module:
    if scale > 1:
        return nn.ConvTranspose2d(width, width, int(scale), stride=int(scale))
    return nn.Identity() if scale == 1 else nn.Conv2d(width, width, 3, stride=round(1 / scale), padding=1)
