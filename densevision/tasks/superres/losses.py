"""Losses that compare the pixels of a prediction with those of its target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PixelCriterion"]

Tensors = dict[str, Tensor]

CHARBONNIER_EPSILON = 1e-6
"""Squared radius of the rounded corner of the Charbonnier loss."""


class PixelCriterion(nn.Module):
    """A weighted sum of pixel losses; a weight of 0 leaves one out.

    Args:
        l1: Weight of the mean absolute difference.
        charbonnier: Weight of the smooth absolute difference, sqrt(d^2 + 1e-6).
        mse: Weight of the mean squared difference.
        frequency: Weight of the mean absolute difference of the Fourier transforms.
    """

    def __init__(self, l1: float = 1.0, charbonnier: float = 0.0, mse: float = 0.0, frequency: float = 0.0):
        super().__init__()
        self.l1, self.charbonnier, self.mse, self.frequency = l1, charbonnier, mse, frequency

    def forward(self, prediction: Tensor, targets: Tensors) -> Tensors:
        """Computes the weighted losses by name.

        Args:
            prediction: (B, C, H, W).
            targets: "image" (B, C, H, W), and "known" (B, 1, H, W) bool; unknown pixels are ignored.
        """
        prediction = prediction.float()
        known = targets["known"]
        difference = (prediction - targets["image"]) * known
        count = (known.sum() * prediction.shape[1]).clamp(min=1)
        losses = {}
        if self.l1:
            losses["l1"] = self.l1 * difference.abs().sum() / count
        if self.charbonnier:
            smooth = ((difference.square() + CHARBONNIER_EPSILON).sqrt() * known).sum()
            losses["charbonnier"] = self.charbonnier * smooth / count
        if self.mse:
            losses["mse"] = self.mse * difference.square().sum() / count
        if self.frequency:
            # Orthonormal, so that the loss does not grow with the size of the image.
            losses["frequency"] = self.frequency * torch.fft.rfft2(difference, norm="ortho").abs().mean()
        return losses
