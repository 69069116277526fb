"""The loss that compares what a pretrained network sees in two images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.run_config import BackboneConfig


class Perceptual(nn.Module):
    """The mean absolute difference of the features that a timm backbone has of two images.

    Source: Johnson et al., Perceptual Losses, ECCV 2016, eq. 2, with absolute differences.

    Args:
        backbone: Whose features; its parameters never learn.
        strides: The levels that are compared.
    """

    def __init__(self, backbone: BackboneConfig, strides: Sequence[int]):
        super().__init__()
        self.backbone = Backbone(backbone, deepest=max(strides)).requires_grad_(False).eval()
        absent = [stride for stride in strides if stride not in self.backbone.strides[1:]]
        if absent:
            hint = f"{backbone.name} has the strides {', '.join(map(str, self.backbone.strides[1:]))}."
            raise UsageError("no such level", field="loss.perceptual.strides", value=absent, hint=hint)
        self.levels = [self.backbone.strides.index(stride) for stride in strides]

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in evaluation mode: statistics of norms are part of the features."""
        return super().train(False)

    def forward(self, answer: Tensor, target: Tensor) -> Tensor:
        """(B, C, H, W) images in [0, 1] to a scalar; the gradient flows into the answer alone."""
        with torch.no_grad():
            wanted = self.backbone(target)
        found = self.backbone(answer)
        return torch.stack([F.l1_loss(found[level].float(), wanted[level].float()) for level in self.levels]).mean()
