"""What generators and discriminators are made of: norms and dropout that know how to behave once they are trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
SPREAD = 0.02
"""Standard deviation of the first weights. Source: Isola et al., section 6.2."""
TILE = 64
"""Side in cells of the table of noise, which is repeated beyond."""


def norm_named(kind: str, statistics: Literal["batch", "running"]) -> Norm:
    """What builds a norm of a number of channels.

    Args:
        kind: `batch`, or `instance` without learned scale and shift.
        statistics: What batch norms use in evaluation.
    """
    if kind == "instance":
        return nn.InstanceNorm2d
    return partial(ImageBatchNorm, own=statistics == "batch")


class ImageBatchNorm(nn.BatchNorm2d):
    """A batch norm that in evaluation can use the statistics of each image alone.

    That is what batch norm does to a batch of one, whatever else is in the batch: no answer depends on its neighbors.

    Args:
        channels: Number of channels.
        own: In evaluation, use the image's own statistics instead of the averages of training.
    """

    def __init__(self, channels: int, own: bool):
        super().__init__(channels)
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if self.training or not self.own:
            return super().forward(x)
        wide = x.float()
        centered = wide - wide.mean((2, 3), keepdim=True)
        scale = (centered.square().mean((2, 3), keepdim=True) + self.eps).rsqrt() * self.weight[:, None, None]
        return (centered * scale + self.bias[:, None, None]).to(x.dtype)


class NoisyDropout(nn.Module):
    """Dropout that can stay on in evaluation, as noise that is drawn once and for all.

    Args:
        share: Of the features that are set to zero.
        channels: Of the features.
        noise: Seed of the noise in evaluation and the number of this layer; None turns it off there.
    """

    def __init__(self, share: float, channels: int, noise: tuple[int, int] | None):
        super().__init__()
        self.share = share
        kept = None
        if noise is not None:
            kept = torch.from_numpy(np.random.default_rng(noise).random((channels, TILE, TILE), np.float32) >= share)
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; the noise of evaluation repeats every `TILE` cells and is the same for all."""
        if self.training:
            return F.dropout(x, self.share)
        if self.kept is None:
            return x
        rows, columns = (torch.arange(side, device=x.device) % TILE for side in x.shape[-2:])
        return x * (self.kept[:, rows][:, :, columns].to(x.dtype) / (1 - self.share))


def init_weights(network: nn.Module) -> None:
    """Draws the first weights, in place: convolutions around 0, scales of norms around 1, biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, SPREAD)
            nn.init.zeros_(module.bias)
