"""What exists only in training: discriminators, earlier answers, and the network whose features are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densevision.nn.perceptual import Perceptual
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.models.discriminators import (
    MultiScaleDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from densevision.tasks.translation.models.layers import norm_named


class TrainingModules(nn.Module):
    """The parts that the config's losses need.

    Attributes:
        discriminator: Trained beside the network, or None.
        buffer: Earlier answers, or None.
        perceptual: Never trained, or None.
    """

    def __init__(self, config: TranslationConfig):
        super().__init__()
        adversarial, perceptual = config.loss.adversarial, config.loss.perceptual
        judged = config.channels + (config.backbone.channels if adversarial.conditional else 0)
        self.conditional = adversarial.conditional
        self.discriminator = _discriminator(config, judged) if adversarial.weight else None
        shape = (judged, config.data.size, config.data.size)
        self.buffer = ImagePool(adversarial.buffer, shape) if adversarial.buffer else None
        self.perceptual = Perceptual(perceptual.backbone, perceptual.strides) if perceptual.weight else None

    def shown(self, question: Tensor, answer: Tensor) -> Tensor:
        """What the discriminator sees: the answer, with the input before it if the config says so.

        Args:
            question: (B, C, H, W) in [0, 1].
            answer: (B, C', H, W) in [0, 1].

        Returns:
            (B, C + C' or C', H, W) from -1 to 1.
        """
        images = torch.cat([question, answer], 1) if self.conditional else answer
        return images * 2 - 1


class ImagePool(nn.Module):
    """Remembers earlier answers and shows them again, so that the discriminator does not forget them.

    Its images are part of the state of the critic, so that a resumed run goes on with the very same ones; its chance
    is torch's, which the engine seeds with each epoch.

    Source: Shrivastava et al., Learning from Simulated and Unsupervised Images, CVPR 2017, section 2.3.

    Args:
        size: Number of answers that are kept.
        shape: (C, H, W) of what is kept.
    """

    def __init__(self, size: int, shape: tuple[int, int, int]):
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))

    def exchange(self, answers: Tensor) -> Tensor:
        """Keeps each new answer while there is room; then, half of the time, gives an earlier one for it.

        Args:
            answers: (B, C, H, W) without gradient.
        """
        shown = answers.clone()
        for row, answer in enumerate(answers):
            held = int(self.held)
            if held < self.size:
                self.images[held] = answer
                self.held += 1
            elif float(torch.rand(())) < 0.5:
                place = int(torch.randint(self.size, ()))
                shown[row] = self.images[place]
                self.images[place] = answer
        return shown


def _discriminator(config: TranslationConfig, channels: int) -> MultiScaleDiscriminator:
    adversarial = config.loss.adversarial
    norm, biased = norm_named(config.norm, "batch"), config.norm == "instance"

    def one() -> nn.Module:
        if adversarial.discriminator == "pixel":
            return PixelDiscriminator(channels, adversarial.width, norm, biased)
        return PatchDiscriminator(channels, adversarial.width, config.patch_layers, norm, biased)

    return MultiScaleDiscriminator([one() for _ in range(adversarial.scales)])
