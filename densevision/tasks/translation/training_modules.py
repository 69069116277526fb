"""Modules that exist only in training: discriminators, an image pool, and the perceptual network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densevision.nn.perceptual import PerceptualLoss
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.models.discriminators import (
    MultiScaleDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from densevision.tasks.translation.models.layers import get_norm

__all__ = ["ImagePool", "TrainingModules"]


class TrainingModules(nn.Module):
    """The modules that the config's losses need.

    Attributes:
        discriminator: Trained together with the generator, or None.
        image_pool: Earlier predictions, or None.
        perceptual: Frozen, or None.
    """

    def __init__(self, config: TranslationConfig):
        super().__init__()
        adversarial, perceptual = config.loss.adversarial, config.loss.perceptual
        channels = config.out_channels + (config.backbone.channels if adversarial.conditional else 0)
        self.is_conditional = adversarial.conditional
        self.discriminator = _build_discriminator(config, channels) if adversarial.weight else None
        shape = (channels, config.data.size, config.data.size)
        self.image_pool = ImagePool(adversarial.pool_size, shape) if adversarial.pool_size else None
        self.perceptual = PerceptualLoss(perceptual.backbone, perceptual.strides) if perceptual.weight else None

    def build_discriminator_input(self, image: Tensor, output: Tensor) -> Tensor:
        """The generator's output or a target, after the generator's input if the discriminator is conditional.

        Args:
            image: (B, C, H, W) in [0, 1].
            output: (B, C', H, W) in [0, 1].

        Returns:
            (B, C + C' or C', H, W) from -1 to 1.
        """
        images = torch.cat([image, output], 1) if self.is_conditional else output
        return images * 2 - 1


class ImagePool(nn.Module):
    """Keeps earlier predictions and returns them again, so that the discriminator does not forget them.

    Its images are part of the state dict, so that a resumed run continues with the same ones; its randomness is torch's
    global generator, which training seeds in each epoch.

    Source: Shrivastava et al., Learning from Simulated and Unsupervised Images, CVPR 2017, section 2.3.

    Args:
        size: Number of images that are kept.
        shape: (C, H, W) of an image.
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]):
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def exchange(self, images: Tensor) -> Tensor:
        """Stores new images until the pool is full; then returns, with probability 0.5, a stored one in exchange.

        Args:
            images: (B, C, H, W) without gradient.
        """
        returned = images.clone()
        for row, image in enumerate(images):
            count = int(self.count)
            if count < self.size:
                self.images[count] = image
                self.count += 1
            elif float(torch.rand(())) < 0.5:
                position = int(torch.randint(self.size, ()))
                returned[row] = self.images[position]
                self.images[position] = image
        return returned


def _build_discriminator(config: TranslationConfig, channels: int) -> MultiScaleDiscriminator:
    adversarial = config.loss.adversarial
    build_norm, bias = get_norm(config.norm, use_batch_stats=True), config.norm == "instance"

    def build_one() -> nn.Module:
        if adversarial.discriminator == "pixel":
            return PixelDiscriminator(channels, adversarial.width, build_norm, bias)
        return PatchDiscriminator(channels, adversarial.width, config.patch_layers, build_norm, bias)

    return MultiScaleDiscriminator([build_one() for _ in range(adversarial.scales)])
