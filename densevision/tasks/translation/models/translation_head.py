"""From the encoder's levels to the answer: one generator per architecture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.models.encoder_unet import EncoderUNet
from densevision.tasks.translation.models.layers import norm_named
from densevision.tasks.translation.models.resnet import ResNetGenerator
from densevision.tasks.translation.models.unet import UNetGenerator


class TranslationHead(nn.Module):
    """Answers an image with an image.

    Args:
        network: A generator from -1..1 to -1..1.
        pyramid: The generator takes all levels, not the image alone.
    """

    def __init__(self, network: nn.Module, pyramid: bool = False):
        super().__init__()
        self.network, self.pyramid = network, pyramid

    def forward(self, image: list[Tensor]) -> dict[str, Tensor]:
        """Levels, the image (B, C, H, W) in [0, 1] first, to `image` (B, C', H, W) in [0, 1]."""
        answer = self.network(image if self.pyramid else image[0] * 2 - 1)
        return {"image": (answer + 1) / 2}


def build_head(config: TranslationConfig, channels: Sequence[int]) -> TranslationHead:
    """The head that a config names.

    Args:
        config: Architecture, sizes, norms, and how they behave once trained.
        channels: Channels of every level, the image's first.
    """
    norm = norm_named(config.norm, config.inference.norm)
    noise = config.inference.seed if config.inference.dropout else None
    if config.arch == "timm":
        network = EncoderUNet(channels, config.channels, config.width, norm, config.dropout, noise)
        return TranslationHead(network, pyramid=True)
    # Instance norms have no shift of their own, so the convolutions before them keep theirs.
    common = {"norm": norm, "biased": config.norm == "instance", "dropout": config.dropout, "noise": noise}
    if config.arch == "resnet":
        return TranslationHead(ResNetGenerator(channels[0], config.channels, config.width, config.blocks, **common))
    return TranslationHead(UNetGenerator(channels[0], config.channels, config.width, config.levels, **common))
