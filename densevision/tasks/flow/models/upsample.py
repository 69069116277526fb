"""Upsampling of the flow from cells to pixels.

Source: Teed and Deng, RAFT, ECCV 2020, section 3.3, and appendix B.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BilinearUpsampler", "ConvexUpsampler"]

NEIGHBORS = 9
LOGIT_SCALE = 0.25
"""Factor of the logits, which balances their gradients with those of the flow."""


class ConvexUpsampler(nn.Module):
    """Each pixel is a convex combination of the nine cells around it, with weights predicted from the hidden state.

    Args:
        hidden: Channels of the hidden state.
        width: Channels of the intermediate layer.
        stride: Pixels per cell.
    """

    def __init__(self, hidden: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.weights = nn.Sequential(
            nn.Conv2d(hidden, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, stride * stride * NEIGHBORS, 1),
        )

    def forward(self, field: Tensor, state: Tensor) -> Tensor:
        """(B, C, H, W) and (B, hidden, H, W) to (B, C, stride H, stride W)."""
        batch, channels, height, width = field.shape
        weights = LOGIT_SCALE * self.weights(state).float()
        weights = weights.view(batch, 1, NEIGHBORS, self.stride, self.stride, height, width).softmax(2)
        patches = F.unfold(field, 3, padding=1).view(batch, channels, NEIGHBORS, 1, 1, height, width)
        fine = (weights * patches).sum(2)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, self.stride * height, self.stride * width)


class BilinearUpsampler(nn.Module):
    """Interpolates bilinearly with aligned corners, as RAFT-small was trained.

    Args:
        stride: Pixels per cell.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, field: Tensor, state: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, stride H, stride W); the hidden state is ignored."""
        size = (self.stride * field.shape[2], self.stride * field.shape[3])
        return F.interpolate(field, size, mode="bilinear", align_corners=True)
