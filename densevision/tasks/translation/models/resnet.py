"""A generator of residual blocks between two strided convolutions down and two up."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.tasks.translation.models.layers import BuildNorm, NoisyDropout, init_weights
from densevision.tasks.translation.models.translation_model import TranslationModel

__all__ = ["Pix2PixResNet"]

HALVINGS = 2


class Pix2PixResNet(TranslationModel):
    """Residual blocks at a quarter of the image's size.

    Source: Johnson et al., Perceptual Losses, ECCV 2016, as in Zhu et al., CycleGAN, ICCV 2017, section 7.1.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        width: Channels at the image's size.
        depth: Number of residual blocks.
        dropout: Fraction of the features that are set to zero within each block.
        noise_seed: Seed of the dropout in evaluation; None disables it there.
        options: Further arguments of `TranslationModel`; `image_size` is a multiple of 4.

    Raises:
        UsageError: The image size is no multiple of 4.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        depth: int = 9,
        dropout: float = 0.5,
        noise_seed: int | None = 0,
        **options: Any,
    ):
        super().__init__(in_channels, **options)
        self.multiple_of = 1 << HALVINGS
        if self.image_size % self.multiple_of:
            raise UsageError(f"is no multiple of {self.multiple_of}", field="data.size", value=self.image_size)
        self.depth = depth
        build_norm = self.build_norm
        bias = self.norm == "instance"  # instance norms here have no shift of their own
        self.first = _with_norm(_reflect_convolution(in_channels, width, 7, bias), build_norm(width))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level in range(HALVINGS):
            thin, wide = width << level, width << level + 1
            self.downs.append(_with_norm(nn.Conv2d(thin, wide, 3, 2, 1, bias=bias), build_norm(wide)))
            up = nn.ConvTranspose2d(wide, thin, 3, 2, 1, output_padding=1, bias=bias)
            self.ups.insert(0, _with_norm(up, build_norm(thin)))
        seeds = [None if noise_seed is None else (noise_seed, number) for number in range(depth)]
        inner = width << HALVINGS
        self.blocks = nn.ModuleList(_ResidualBlock(inner, build_norm, bias, dropout, seed) for seed in seeds)
        self.last = _reflect_convolution(width, out_channels, 7, True)
        init_weights(self)

    def generate(self, image: Tensor) -> Tensor:
        """See `TranslationModel.generate`."""
        x = self.first(image * 2 - 1)
        for part in (*self.downs, *self.blocks, *self.ups):
            x = part(x)
        return self.last(x).float().tanh()  # half precision would round the image


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norms, with optional dropout between them, as a residual."""

    def __init__(
        self, width: int, build_norm: BuildNorm, bias: bool, dropout: float, noise_seed: tuple[int, int] | None
    ):
        super().__init__()
        self.first = _with_norm(_reflect_convolution(width, width, 3, bias), build_norm(width))
        self.dropout = NoisyDropout(dropout, width, noise_seed) if dropout else nn.Identity()
        self.second = nn.Sequential(_reflect_convolution(width, width, 3, bias), build_norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.second(self.dropout(self.first(x)))


def _reflect_convolution(in_channels: int, out_channels: int, kernel: int, bias: bool) -> nn.Conv2d:
    """A convolution with reflection padding that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="reflect", bias=bias)


def _with_norm(convolution: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, norm, nn.ReLU())
