"""How far an answer is from its target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.results import Picture
from densevision.tasks.superres.config import LossConfig

Tensors = dict[str, Tensor]
ROUND = 1e-6
"""What rounds the corner of the Charbonnier loss."""


def stack(truths: Sequence[Picture | None], channels: int, scale: int) -> Tensors:
    """Targets of any sizes in one tensor.

    Args:
        truths: None where nothing is known.
        channels: Of the network's answer.
        scale: A batch of which nothing is known gets targets of the least size, `scale` pixels a side.

    Returns:
        "image" (B, channels, H, W) in [0, 1] and "known" (B, 1, H, W) bool.
    """
    sizes = [truth.size for truth in truths if truth is not None] or [(scale, scale)]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    image = torch.full((len(truths), channels, height, width), torch.nan)
    for row, truth in zip(image, truths):
        if truth is not None:
            pixels = torch.from_numpy(np.ascontiguousarray(truth.unit().transpose(2, 0, 1)))
            row[:, : truth.size[0], : truth.size[1]] = pixels
    known = image.isfinite().all(1, keepdim=True)
    return {"image": image.nan_to_num(), "known": known}


def pixel_losses(answer: Tensor, targets: Tensors, config: LossConfig) -> Tensors:
    """The losses that compare pixels, by name and weighted; those of weight 0 are left out.

    Args:
        answer: (B, C, H, W).
        targets: Of `stack`; pixels that are not known count nothing.
        config: The weights.
    """
    answer = answer.float()
    known = targets["known"]
    difference = (answer - targets["image"]) * known
    count = (known.sum() * answer.shape[1]).clamp(min=1)
    losses = {}
    if config.l1:
        losses["l1"] = config.l1 * difference.abs().sum() / count
    if config.charbonnier:
        smooth = ((difference.square() + ROUND).sqrt() * known).sum()
        losses["charbonnier"] = config.charbonnier * smooth / count
    if config.mse:
        losses["mse"] = config.mse * difference.square().sum() / count
    if config.frequency:
        # Orthonormal, so that the loss is of the size of the others whatever the size of the picture.
        losses["frequency"] = config.frequency * torch.fft.rfft2(difference, norm="ortho").abs().mean()
    return losses


def where_known(answer: Tensor, targets: Tensors) -> tuple[Tensor, Tensor]:
    """Answer and target for networks that look at whole pictures: what is not known is taken from the answer."""
    answer = answer.float()
    return answer, torch.where(targets["known"], targets["image"], answer.detach())


def generator_loss(critic: torch.nn.Module, fake: Tensor, real: Tensor, kind: str) -> Tensor:
    """How far the answers are from being taken for real.

    Source: Jolicoeur-Martineau, The relativistic discriminator, ICLR 2019, section 4; Goodfellow et al., 2014.

    Args:
        critic: (B, C, H, W) pictures to logits of any shape.
        fake: The network's answers.
        real: The targets.
        kind: `relativistic` or `vanilla`.
    """
    score = critic(fake)
    if kind == "vanilla":
        return _bce(score, 1.0)
    true = critic(real).detach()
    return (_bce(score - true.mean(), 1.0) + _bce(true - score.mean(), 0.0)) / 2


def discriminator_loss(critic: torch.nn.Module, fake: Tensor, real: Tensor, kind: str) -> Tensor:
    """How badly the critic tells answers from targets; arguments as in `generator_loss`, `fake` without gradient."""
    score, true = critic(fake), critic(real)
    if kind == "vanilla":
        return (_bce(true, 1.0) + _bce(score, 0.0)) / 2
    return (_bce(true - score.mean(), 1.0) + _bce(score - true.mean(), 0.0)) / 2


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, label, dtype=torch.float32))
