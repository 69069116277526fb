"""How far an answer is from its target, and from being taken for real."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.nn.adversarial import discriminator_loss, generator_loss

EvaluationResult = Sequence[Sequence[Tensor]]
"""The features of each discriminator, of which the last are logits."""


def l1(answer: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """The mean absolute difference of pixels from -1 to 1, over what is known.

    Args:
        answer: (B, C, H, W) in [0, 1].
        targets: Of `stack_images`.
    """
    known = targets["known"]
    difference = (answer.float() - targets["image"]).abs() * known
    return 2 * difference.sum() / (known.sum() * answer.shape[1]).clamp(min=1)


def generator_loss_of(fake: EvaluationResult, kind: str) -> Tensor:
    """The network's adversarial loss, the mean over the discriminators."""
    return torch.stack([generator_loss(features[-1], None, kind) for features in fake]).mean()


def discriminator_loss_of(fake: EvaluationResult, real: EvaluationResult, kind: str) -> Tensor:
    """The discriminators' loss, the mean over them, halved as in the paper."""
    pairs = zip(fake, real)
    return torch.stack([discriminator_loss(one[-1], other[-1], kind) for one, other in pairs]).mean()


def feature_distance(fake: EvaluationResult, real: EvaluationResult) -> Tensor:
    """The mean absolute difference of all features but the logits.

    Source: Wang et al., pix2pixHD, CVPR 2018, eq. 4.
    """
    pairs = [pair for one, other in zip(fake, real) for pair in zip(one[:-1], other[:-1])]
    return torch.stack([F.l1_loss(mine.float(), theirs.detach().float()) for mine, theirs in pairs]).mean()
