"""From features to the depth or disparity of every pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.models.dpt import DPT
from densevision.tasks.depth.models.unet import SCALES, UNet

START = 0.2
"""Part of the largest number that an untrained network answers everywhere."""


class DepthHead(nn.Module):
    """One positive number per pixel, in the network's own terms: see `units`.

    Args:
        config: Names the architecture and what it says.
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
    """

    def __init__(self, config: DepthConfig, channels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.learns, self.max = config.learns, config.max if config.bounded else None
        if config.arch == "unet":
            outputs, scales = (2, SCALES) if config.stereo else (1, 1)
            self.decoder = UNet(channels, strides, config.width, config.finest, outputs, scales)
            last = list(self.decoder.predict)
        else:
            self.decoder = DPT(channels, strides, config.width, config.reassemble)
            last = [self.decoder.predict]
        for convolution in last:
            nn.init.constant_(convolution.bias, math.log(START / (1 - START)) if self.max else 1.0)

    def forward(self, image: Sequence[Tensor]) -> dict[str, Tensor]:
        """Answers the levels of an image: "depth" (B, 1, H, W), at the image's size."""
        raw = self._raw(image)[0][:, :1]
        if raw.shape[-2:] != image[0].shape[-2:]:
            raw = F.interpolate(raw, image[0].shape[-2:], mode="bilinear", align_corners=False)
        return {"depth": self._positive(raw)}

    def scales(self, image: Sequence[Tensor]) -> list[Tensor]:
        """Disparity of the left and of the right image at four scales, for losses on pairs.

        Returns:
            (B, 2, h, w) in pixels of the image, the finest first.
        """
        return [self._positive(raw) for raw in self._raw(image)]

    def _raw(self, levels: Sequence[Tensor]) -> list[Tensor]:
        found = self.decoder(levels)
        return found if isinstance(found, list) else [found]

    def _positive(self, raw: Tensor) -> Tensor:
        if self.max is not None:
            return self.max * raw.float().sigmoid()
        return F.relu(raw) if self.learns == "disparity" else F.softplus(raw)
