"""The second stage's heads: class and box, mask, keypoints of each pooled object."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from densevision.nn.rcnn.config import BoxConfig, KeypointConfig, MaskConfig

Norm = Callable[[int], nn.Module] | None


class BoxHead(nn.Module):
    """What an object is, and how its proposal should move.

    Source: Girshick, Fast R-CNN, ICCV 2015; with convolutions, Wu and He, Group Normalization, ECCV 2018, section 4.2.

    Args:
        inputs: Channels of the features.
        classes: Number of classes, without background.
        config: Layers.
        norm: Builds the norms of the convolutions; none when not given.
    """

    def __init__(self, inputs: int, classes: int, config: BoxConfig, norm: Norm = None):
        super().__init__()
        self.convolve = _convolutions(inputs, inputs, config.convolutions, norm)
        widths = (inputs * config.resolution**2, *config.hidden)
        self.connect = nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(widths)))
        self.classify = nn.Linear(widths[-1], classes + 1)
        self.regress = nn.Linear(widths[-1], 4 * (classes + 1))
        for layer, deviation in ((self.classify, 0.01), (self.regress, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs, resolution, resolution) to logits (N, 1 + classes) and offsets (N, 1 + classes, 4).

        Background comes first.
        """
        x = self.convolve(features).flatten(1)
        for layer in self.connect:
            x = F.relu(layer(x), inplace=True)
        return self.classify(x).float(), self.regress(x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Which part of its box an object covers.

    Source: He et al., Mask R-CNN, ICCV 2017, figure 4 right.

    Args:
        inputs: Channels of the features.
        classes: Number of classes, without background.
        config: Layers.
        norm: Builds the norms of the convolutions; none when not given.
    """

    def __init__(self, inputs: int, classes: int, config: MaskConfig, norm: Norm = None):
        super().__init__()
        self.convolve = _convolutions(inputs, config.width, config.convolutions, norm)
        self.enlarge = nn.ConvTranspose2d(config.width, config.width, 2, stride=2)
        self.predict = nn.Conv2d(config.width, classes + 1, 1)
        for layer in (self.enlarge, self.predict):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(N, inputs, R, R) and classes (N,), 0 the background, to logits (N, 2 R, 2 R) of those classes' masks."""
        x = F.relu(self.enlarge(self.convolve(features)), inplace=True)
        # Only the mask of one class is wanted, so the last convolution computes no other.
        weight = self.predict.weight.flatten(1)[labels]
        return torch.einsum("nchw,nc->nhw", x, weight).float() + self.predict.bias[labels][:, None, None]


class KeypointHead(nn.Module):
    """Where each keypoint of an object is, as a heatmap over its box.

    Source: He et al., Mask R-CNN, ICCV 2017, section 5.

    Args:
        inputs: Channels of the features.
        keypoints: Number of keypoints.
        config: Layers.
    """

    def __init__(self, inputs: int, keypoints: int, config: KeypointConfig):
        super().__init__()
        self.convolve = _convolutions(inputs, config.width, config.convolutions, None)
        self.enlarge = nn.ConvTranspose2d(config.width, keypoints, 4, stride=2, padding=1)
        nn.init.kaiming_normal_(self.enlarge.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.enlarge.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, R, R) to logits (N, keypoints, 4 R, 4 R)."""
        x = self.enlarge(self.convolve(features)).float()
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _convolutions(inputs: int, width: int, count: int, norm: Norm) -> nn.Sequential:
    widths = (inputs, *[width] * count)
    layers = nn.Sequential(*(Conv2dNormActivation(*pair, 3, norm_layer=norm) for pair in pairwise(widths)))
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers
