"""A U-Net generator on any timm backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.unet import UNetDecoder
from densevision.tasks.translation.models.layers import NoisyDropout, init_weights
from densevision.tasks.translation.models.translation_model import TranslationModel

__all__ = ["Pix2PixTimm"]


class Pix2PixTimm(TranslationModel):
    """The levels of a timm backbone, with dropout on the deepest one, to an image.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        encoder: A timm model.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        width: Channels of the decoder at the image's size.
        dropout: Fraction of the deepest features that are set to zero.
        noise_seed: Seed of the dropout in evaluation; None disables it there.
        options: Further arguments of `TranslationModel`; `norm` and `use_batch_stats` are those of the decoder.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        encoder: str = "mobilenetv2_100",
        encoder_options: Mapping[str, Any] | None = None,
        width: int = 64,
        dropout: float = 0.5,
        noise_seed: int | None = 0,
        **options: Any,
    ):
        super().__init__(in_channels, **options)
        self.encoder = Backbone(encoder, in_channels, **(encoder_options or {}))
        channels = self.encoder.channels
        seed = None if noise_seed is None else (noise_seed, 0)
        self.dropout = NoisyDropout(dropout, channels[-1], seed) if dropout else nn.Identity()
        self.decoder = UNetDecoder(channels, width, self.build_norm)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)
        for part in (self.decoder, self.last):
            init_weights(part)

    def generate(self, image: Tensor) -> Tensor:
        """See `TranslationModel.generate`."""
        *levels, deepest = self.encoder(image)
        output = self.last(self.decoder([*levels, self.dropout(deepest)]))
        return output.float().tanh()  # half precision would round the image

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses batches of one sample that is a single cell at the deepest level: batch norms need two values.

        Raises:
            UsageError: The batch is such.
        """
        stride = self.encoder.strides[-1]
        has_batch_norms = any(isinstance(module, nn.BatchNorm2d) for module in self.encoder.modules())
        if batch_size == 1 and self.image_size <= stride and has_batch_norms:
            problem = f"a sample is a single cell at the encoder's stride {stride}, and batch norms need two"
            hint = f"Set data.size to more than {stride}, or train.batch to 2 or more."
            raise UsageError(problem, field="data.size", value=self.image_size, hint=hint)
