"""The perceptual loss: distance between the features that a pretrained network computes of two images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.run_config import BackboneConfig

__all__ = ["PerceptualLoss"]


class PerceptualLoss(nn.Module):
    """Mean absolute difference of timm features.

    Source: Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016, eq. 2, with
    absolute instead of squared differences.

    Args:
        backbone: The feature network; its parameters are frozen.
        strides: Strides of the levels that are compared.

    Raises:
        UsageError: The network has no level of one of the strides.
    """

    def __init__(self, backbone: BackboneConfig, strides: Sequence[int]):
        super().__init__()
        network = Backbone(backbone.name, backbone.channels, **backbone.to_options(), deepest=max(strides))
        self.backbone = network.requires_grad_(False).eval()
        available = self.backbone.strides[1:]
        if missing := [stride for stride in strides if stride not in available]:
            hint = f"{backbone.name} has the strides {', '.join(map(str, available))}."
            raise UsageError("no such level", field="loss.perceptual.strides", value=missing, hint=hint)
        self.levels = [self.backbone.strides.index(stride) for stride in strides]

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation mode: batch statistics would change the features."""
        return super().train(False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(B, C, H, W) images in [0, 1] to a scalar; only the prediction receives a gradient."""
        with torch.no_grad():
            targets = self.backbone(target)
        features = self.backbone(prediction)
        return torch.stack([F.l1_loss(features[level].float(), targets[level].float()) for level in self.levels]).mean()
