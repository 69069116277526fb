"""A generator of residual blocks between two strided convolutions down and two up."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.tasks.translation.models.layers import NoisyDropout, Norm, init_weights

HALVINGS = 2


class ResNetGenerator(nn.Module):
    """Source: Johnson et al., Perceptual Losses, ECCV 2016, as in Zhu et al., CycleGAN, ICCV 2017, section 7.1.

    Args:
        inputs: Channels of the image.
        outputs: Channels of the answer.
        width: Channels at the image's own size.
        depth: Number of residual blocks.
        norm: Builds the norm of a number of channels.
        biased: Whether convolutions before norms have biases.
        dropout: Share of the features that is set to zero within each block.
        noise: Seed of the dropout in evaluation; None turns it off there.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        norm: Norm,
        biased: bool,
        dropout: float,
        noise: int | None,
    ):
        super().__init__()
        self.first = _activated(_mirrored(inputs, width, 7, biased), norm(width))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level in range(HALVINGS):
            thin, wide = width << level, width << level + 1
            self.downs.append(_activated(nn.Conv2d(thin, wide, 3, 2, 1, bias=biased), norm(wide)))
            up = nn.ConvTranspose2d(wide, thin, 3, 2, 1, output_padding=1, bias=biased)
            self.ups.insert(0, _activated(up, norm(thin)))
        inner = width << HALVINGS
        self.blocks = nn.ModuleList(
            ResidualBlock(inner, norm, biased, dropout, None if noise is None else (noise, number))
            for number in range(depth)
        )
        self.last = _mirrored(width, outputs, 7, True)
        init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, H, W) from -1 to 1 to (B, outputs, H, W) from -1 to 1; sides are multiples of 4, at least 8."""
        x = self.first(image)
        for part in (*self.downs, *self.blocks, *self.ups):
            x = part(x)
        return self.last(x).float().tanh()  # half precision would round the image


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with norms beside an identity, perhaps with dropout between them."""

    def __init__(self, width: int, norm: Norm, biased: bool, dropout: float, noise: tuple[int, int] | None):
        super().__init__()
        self.first = _activated(_mirrored(width, width, 3, biased), norm(width))
        self.dropout = NoisyDropout(dropout, width, noise) if dropout else nn.Identity()
        self.second = nn.Sequential(_mirrored(width, width, 3, biased), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        return x + self.second(self.dropout(self.first(x)))


def _mirrored(inputs: int, outputs: int, kernel: int, biased: bool) -> nn.Conv2d:
    """A convolution that keeps the size and sees the image continued by its mirror image."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect", bias=biased)


def _activated(convolution: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, norm, nn.ReLU())
