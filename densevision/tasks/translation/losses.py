"""Losses of generators and discriminators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.adversarial import discriminator_loss, generator_loss

__all__ = [
    "DiscriminatorFeatures",
    "L1Criterion",
    "average_discriminator_loss",
    "average_generator_loss",
    "feature_matching_loss",
]

Tensors = dict[str, Tensor]
DiscriminatorFeatures = Sequence[Sequence[Tensor]]
"""The features of each discriminator, the last of which are logits."""


class L1Criterion(nn.Module):
    """The mean absolute difference of pixels from -1 to 1, over known pixels.

    Args:
        weight: Weight of the loss: lambda of Isola et al.; 0 leaves it out.
    """

    def __init__(self, weight: float = 100.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Tensor, targets: Tensors) -> Tensors:
        """Computes the weighted loss by name.

        Args:
            prediction: (B, C, H, W) in [0, 1].
            targets: "image" (B, C, H, W) in [0, 1], and "known" (B, 1, H, W) bool; unknown pixels are ignored.
        """
        if not self.weight:
            return {}
        known = targets["known"]
        difference = (prediction.float() - targets["image"]).abs() * known
        mean = 2 * difference.sum() / (known.sum() * prediction.shape[1]).clamp(min=1)
        return {"l1": self.weight * mean}


def average_generator_loss(fake: DiscriminatorFeatures, kind: str) -> Tensor:
    """The generator's adversarial loss, averaged over the discriminators; see `generator_loss`."""
    return torch.stack([generator_loss(features[-1], None, kind) for features in fake]).mean()


def average_discriminator_loss(fake: DiscriminatorFeatures, real: DiscriminatorFeatures, kind: str) -> Tensor:
    """The discriminators' loss, averaged over them; see `discriminator_loss`."""
    pairs = zip(fake, real)
    return torch.stack([discriminator_loss(first[-1], second[-1], kind) for first, second in pairs]).mean()


def feature_matching_loss(fake: DiscriminatorFeatures, real: DiscriminatorFeatures) -> Tensor:
    """The mean absolute difference of all features except the logits.

    Source: Wang et al., pix2pixHD, CVPR 2018, eq. 4.
    """
    pairs = [pair for first, second in zip(fake, real) for pair in zip(first[:-1], second[:-1])]
    return torch.stack([F.l1_loss(first.float(), second.detach().float()) for first, second in pairs]).mean()
