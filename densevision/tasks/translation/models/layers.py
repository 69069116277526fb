"""Layers of generators and discriminators: normalization and dropout with a defined behavior in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BuildNorm", "ImageBatchNorm", "NoisyDropout", "Norm", "get_norm", "init_weights"]

Norm = Literal["batch", "instance"]
BuildNorm = Callable[[int], nn.Module]
"""Builds the norm of a number of channels."""
INITIAL_STD = 0.02
"""Standard deviation of initial weights. Source: Isola et al., section 6.2."""
NOISE_SIDE = 64
"""Side in cells of the fixed dropout mask, which repeats beyond."""


def get_norm(norm: Norm, use_batch_stats: bool) -> BuildNorm:
    """The constructor of a norm.

    Args:
        norm: `batch`, or `instance` without learned scale and shift.
        use_batch_stats: See `ImageBatchNorm`.
    """
    return nn.InstanceNorm2d if norm == "instance" else partial(ImageBatchNorm, use_batch_stats=use_batch_stats)


class ImageBatchNorm(nn.BatchNorm2d):
    """A batch norm that in evaluation can use the statistics of each image instead of the running averages.

    This equals a batch norm in training mode for batches of one image; no prediction depends on the rest of its batch.

    Args:
        num_features: Number of channels.
        use_batch_stats: In evaluation, use the image's own statistics.
    """

    def __init__(self, num_features: int, use_batch_stats: bool):
        super().__init__(num_features)
        self.use_batch_stats = use_batch_stats

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training or not self.use_batch_stats:
            return super().forward(x)
        features = x.float()
        centered = features - features.mean((2, 3), keepdim=True)
        scale = (centered.square().mean((2, 3), keepdim=True) + self.eps).rsqrt() * self.weight[:, None, None]
        return (centered * scale + self.bias[:, None, None]).to(x.dtype)


class NoisyDropout(nn.Module):
    """Dropout that can stay enabled in evaluation, with a fixed mask: the noise of pix2pix, but reproducible.

    Args:
        rate: Fraction of the features that are set to zero.
        channels: Channels of the features.
        noise_seed: Seed of the mask in evaluation and the number of this layer; None disables dropout in evaluation.
    """

    mask: Tensor | None

    def __init__(self, rate: float, channels: int, noise_seed: tuple[int, int] | None):
        super().__init__()
        self.rate = rate
        mask = None
        if noise_seed is not None:
            noise = np.random.default_rng(noise_seed).random((channels, NOISE_SIDE, NOISE_SIDE), np.float32)
            mask = torch.from_numpy(noise >= rate)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; in evaluation all images share one mask, which is tiled over large ones."""
        if self.training:
            return F.dropout(x, self.rate)
        if self.mask is None:
            return x
        rows, columns = (torch.arange(side, device=x.device) % NOISE_SIDE for side in x.shape[-2:])
        return x * (self.mask[:, rows][:, :, columns].to(x.dtype) / (1 - self.rate))


def init_weights(network: nn.Module) -> None:
    """Initializes weights in place: convolutions around 0, scales of norms around 1, biases with 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, INITIAL_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, INITIAL_STD)
            nn.init.zeros_(module.bias)
