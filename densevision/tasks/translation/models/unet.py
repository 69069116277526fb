"""The U-Net generator of pix2pix: strided convolutions down to a few cells, and back."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.tasks.translation.models.layers import NoisyDropout, init_weights
from densevision.tasks.translation.models.translation_model import TranslationModel

__all__ = ["Pix2PixUNet"]

SLOPE = 0.2
MAX_WIDTH_FACTOR = 8
"""Maximum channels of a level, as a factor of the first level's."""
FIRST_DROPOUT_LEVEL = 4


class Pix2PixUNet(TranslationModel):
    """Halves the image `depth` times, doubles it as often, and concatenates the levels of equal size.

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 6.1.1.
    Networks with fewer levels than theirs have dropout in the last level but one.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        width: Channels of the first level.
        depth: Number of levels, at least 2; by default as many as `image_size` can be halved (8 is U-Net-256).
        dropout: Fraction of the deep features that are set to zero.
        noise_seed: Seed of the dropout in evaluation; None disables it there.
        options: Further arguments of `TranslationModel`; `image_size` is a multiple of 2^depth.

    Raises:
        UsageError: The depth is below 2, or the image size is no multiple of 2^depth.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        depth: int | None = None,
        dropout: float = 0.5,
        noise_seed: int | None = 0,
        **options: Any,
    ):
        super().__init__(in_channels, **options)
        side = self.image_size
        depth = max(2, (side & -side).bit_length() - 1) if depth is None else depth
        if depth < 2:
            raise UsageError("is at least 2", field="model.depth", value=depth)
        self.multiple_of = 1 << depth
        if side % self.multiple_of:
            problem = f"is no multiple of {self.multiple_of}, which a network of depth {depth} needs"
            raise UsageError(problem, field="data.size", value=side)
        self.depth = depth
        build_norm = self.build_norm
        bias = self.norm == "instance"  # instance norms here have no shift of their own
        widths = [width * min(1 << level, MAX_WIDTH_FACTOR) for level in range(depth)]
        self.downs = nn.ModuleList()
        for level, (before, after) in enumerate(itertools.pairwise([in_channels, *widths])):
            has_norm = 0 < level < depth - 1  # a norm over the single cell of the deepest level would erase it
            convolution = nn.Conv2d(before, after, 4, 2, 1, bias=bias)
            self.downs.append(_Step(convolution, build_norm(after) if has_norm else None))
        self.ups = nn.ModuleList()
        for level, (after, before) in enumerate(itertools.pairwise([out_channels, *widths])):
            inputs = before if level == depth - 1 else 2 * before
            up = nn.ConvTranspose2d(inputs, after, 4, 2, 1, bias=bias or level == 0)
            has_dropout = dropout and max(1, min(FIRST_DROPOUT_LEVEL, depth - 2)) <= level < depth - 1
            seed = None if noise_seed is None else (noise_seed, level)
            drop = NoisyDropout(dropout, after, seed) if has_dropout else None
            self.ups.append(_Step(up, build_norm(after) if level else None, drop))
        init_weights(self)

    def generate(self, image: Tensor) -> Tensor:
        """See `TranslationModel.generate`."""
        x, levels = image * 2 - 1, []
        for level, down in enumerate(self.downs):
            x = down(F.leaky_relu(x, SLOPE) if level else x)
            levels.append(x)
        for level in reversed(range(self.depth)):
            x = self.ups[level](x.relu())
            if level:
                x = torch.cat([levels[level - 1], x], 1)
        return x.float().tanh()  # half precision would round the image


class _Step(nn.Module):
    """A convolution, an optional norm and optional dropout."""

    def __init__(self, convolution: nn.Module, norm: nn.Module | None, dropout: nn.Module | None = None):
        super().__init__()
        self.convolution = convolution
        self.norm = norm or nn.Identity()
        self.dropout = dropout or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to half or twice the size."""
        return self.dropout(self.norm(self.convolution(x)))
