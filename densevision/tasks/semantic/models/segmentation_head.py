"""From features to the logits of every pixel: FCN or one of smp's decoders, and the auxiliary head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.models.fcn import ClassicFCN, DilatedFCN
from densevision.tasks.semantic.models.smp_decoders import SmpHead

CLASSIC = {"fcn32s": 32, "fcn16s": 16, "fcn8s": 8}


class SemanticHead(nn.Module):
    """Logits of every class at every pixel.

    Args:
        config: Names the architecture and its options.
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        classes: Number of classes.
    """

    def __init__(self, config: SemanticConfig, channels: Sequence[int], strides: Sequence[int], classes: int):
        super().__init__()
        # Of two classes that exclude each other one logit is enough: that of the background is zero.
        self.binary = config.mode == "binary"
        outputs = 1 if self.binary else classes
        self.main = _main(config, channels, strides, outputs)
        self.auxiliary = DilatedFCN(channels, -2, outputs) if config.loss.auxiliary else None

    def forward(self, image: Sequence[Tensor]) -> dict[str, Tensor]:
        """Answers the levels of an image.

        Returns:
            "logits" (B, C, H, W), and where there is an auxiliary head "auxiliary" (B, C, H, W).
        """
        scores = {"logits": self.main(image)}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(image)
        return {name: self._classes(score) for name, score in scores.items()}

    def _classes(self, scores: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(scores), scores], 1) if self.binary else scores


def _main(config: SemanticConfig, channels: Sequence[int], strides: Sequence[int], outputs: int) -> nn.Module:
    arch = config.arch
    if arch == "fcn":
        if config.options:
            name = next(iter(config.options))
            raise UsageError("fcn has no options", field=f"options.{name}", value=config.options[name])
        return DilatedFCN(channels, -1, outputs)
    if arch in CLASSIC:
        unknown = set(config.options) - {"width", "dropout"}
        if unknown:
            raise UsageError(
                f"{arch} has no such option", field="options", value=unknown, hint="Known: width, dropout."
            )
        return ClassicFCN(channels, strides, outputs, CLASSIC[arch], **config.options)
    return SmpHead(arch, channels, strides, outputs, config.options)
