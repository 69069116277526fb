"""The anchor-free detector: a neck, then one branch for the class and one for the box at every anchor point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.necks import PAN
from densevision.ops.boxes import anchor_points, distances_to_boxes, expectation

STRIDES = (8, 16, 32)
LOWEST = -1.0
"""Least distance, in strides: a box smaller than a cell may lie beside its anchor point."""
PRIOR = 0.01
"""Score of every class before training: most anchor points see background (Lin et al., Focal Loss, ICCV 2017)."""


class YoloHead(nn.Module):
    """Features of strides 8, 16 and 32 to class logits and distance distributions at every anchor point.

    Args:
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        classes: Number of classes.
        width: Channels of neck and branches.
        depth: Blocks per stage of the neck.
        bins: Values that a distance is distributed over: -1, 0, ..., bins - 2 strides.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, width: int, depth: int, bins: int
    ):
        super().__init__()
        if missing := set(STRIDES) - set(strides):
            hint = "Leave out backbone.output_stride, or take another backbone."
            raise UsageError("the detector reads levels of strides 8, 16 and 32; missing", value=missing, hint=hint)
        self.levels = [list(strides).index(stride) for stride in STRIDES]
        self.neck = PAN([channels[level] for level in self.levels], width, depth)
        self.classify = Branch(width, classes)
        self.regress = Branch(width, 4 * bins)
        nn.init.constant_(self.classify.predict.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, image: Sequence[Tensor]) -> dict[str, Tensor]:
        """Answers the levels of an image.

        Returns:
            "logits" (B, A, C), "distances" (B, A, 4 * bins): logits of the distances to the left, top, right and bottom
            side in strides, and "anchors" (A, 3) of x, y, stride in pixels.
        """
        levels = self.neck([image[level] for level in self.levels])
        return {
            "logits": self.classify(levels),
            "distances": self.regress(levels),
            "anchors": anchor_points(levels, STRIDES),
        }


class Branch(nn.Module):
    """Two convolutions and a prediction.

    All levels share the weights, for an object looks alike on each, so that rare classes and sizes teach all of them;
    the norms are each level's own, for their statistics differ (Lyu et al., RTMDet, 2022, section 3.2).
    """

    def __init__(self, width: int, outputs: int, depth: int = 2):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth)) for _ in STRIDES)
        self.predict = nn.Conv2d(width, outputs, 1)
        nn.init.normal_(self.predict.weight, std=0.01)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, width, H, W) to (B, A, outputs), level by level, row by row."""
        rows = []
        for x, norms in zip(levels, self.norms):
            for convolve, norm in zip(self.convolutions, norms):
                x = nn.functional.silu(norm(convolve(x)), inplace=True)
            rows.append(self.predict(x).flatten(2))
        return torch.cat(rows, 2).transpose(1, 2)


def predicted_boxes(distances: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., A, 4) in pixels from distance logits (..., A, 4 * bins) at anchors (A, 3); no side is negative."""
    steps = expectation(distances.unflatten(-1, (4, -1)), LOWEST)
    corners = distances_to_boxes(anchors[..., :2], steps * anchors[..., 2:])
    left_top, right_bottom = corners.chunk(2, -1)
    return torch.cat([left_top, torch.maximum(left_top + 1e-3, right_bottom)], -1)
