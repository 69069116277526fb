"""How far an answer is from its target."""

from __future__ import annotations

import torch
from torch import Tensor

from densevision.tasks.superres.config import LossConfig

Tensors = dict[str, Tensor]
ROUND = 1e-6
"""What rounds the corner of the Charbonnier loss."""


def pixel_losses(answer: Tensor, targets: Tensors, config: LossConfig) -> Tensors:
    """The losses that compare pixels, by name and weighted; those of weight 0 are left out.

    Args:
        answer: (B, C, H, W).
        targets: Of `stack_images`; pixels that are not known count nothing.
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
        # Orthonormal, so that the loss is of the size of the others whatever the size of the image.
        losses["frequency"] = config.frequency * torch.fft.rfft2(difference, norm="ortho").abs().mean()
    return losses
