"""Fully convolutional networks: as published, and dilated with an auxiliary head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError


class ClassicFCN(nn.Module):
    """FCN-32s, 16s or 8s on the levels of any pyramid.

    Scores of the deepest level are enlarged twofold and summed with those of the level before, as often as the finest
    stride asks for; then linearly to the image. The enlarging kernels start bilinear and are learned; scores of the
    shallower levels start at zero.

    Source: Long, Shelhamer and Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, section 4.
    The two wide layers before the first score are those that VGG's classifier becomes there.

    Args:
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        outputs: Channels of the scores.
        finest: Stride of the finest level that is scored: 32, 16 or 8.
        width: Channels of the wide layers.
        dropout: Part of them that is left out in training.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        outputs: int,
        finest: int,
        width: int = 256,
        dropout: float = 0.5,
    ):
        super().__init__()
        wanted = [stride for stride in (32, 16, 8) if stride >= finest]
        if missing := set(wanted) - set(strides):
            hint = "Leave out backbone.output_stride, or take another backbone."
            raise UsageError(f"fcn{finest}s reads levels that the backbone lacks: strides", value=missing, hint=hint)
        self.levels = [list(strides).index(stride) for stride in wanted]
        deepest, *others = (channels[level] for level in self.levels)
        self.wide = nn.Sequential(
            nn.Conv2d(deepest, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )
        self.scores = nn.ModuleList([nn.Conv2d(width, outputs, 1), *(nn.Conv2d(c, outputs, 1) for c in others)])
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(outputs, outputs, 4, stride=2, padding=1, bias=False) for _ in others
        )
        for score in self.scores[1:]:
            nn.init.zeros_(score.weight)
            nn.init.zeros_(score.bias)
        for layer in self.enlarge:
            _set_bilinear(layer)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels to logits (B, outputs, H, W) of the image, which is level 0."""
        x = self.scores[0](self.wide(levels[self.levels[0]]))
        for index, enlarge, score in zip(self.levels[1:], self.enlarge, self.scores[1:]):
            skip = score(levels[index])
            x = enlarge(x)[..., : skip.shape[-2], : skip.shape[-1]] + skip
        return enlarged(x, levels[0])


class DilatedFCN(nn.Module):
    """The head of torchvision's FCN, on a level whose stride dilation keeps at 8.

    Args:
        channels: Channels of the encoder's levels.
        level: The level that is scored.
        outputs: Channels of the scores.
    """

    def __init__(self, channels: Sequence[int], level: int, outputs: int):
        super().__init__()
        width = max(1, channels[level] // 4)
        self.level = level
        self.layers = nn.Sequential(
            nn.Conv2d(channels[level], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels to logits (B, outputs, H, W) of the image, which is level 0."""
        return enlarged(self.layers(levels[self.level]), levels[0])


def enlarged(scores: Tensor, image: Tensor) -> Tensor:
    """Scores (B, C, h, w) linearly resized to the image (B, ., H, W)."""
    if scores.shape[-2:] == image.shape[-2:]:
        return scores
    # Losses and answers run over the channels of every pixel: plane by plane they need no copies.
    return F.interpolate(scores.contiguous(), image.shape[-2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def _set_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Makes a twofold enlargement interpolate linearly, each channel for itself."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight.zero_()
    for channel in range(layer.in_channels):
        layer.weight[channel, channel] = line[:, None] * line
