"""The heads of the second stage: class and box, mask, keypoints of each pooled object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

__all__ = ["BoxHead", "KeypointHead", "MaskHead"]

NormLayer = Callable[[int], nn.Module] | None


class BoxHead(nn.Module):
    """Classifies a proposal and refines its box.

    Source: Girshick, Fast R-CNN, ICCV 2015; with convolutions, Wu and He, Group Normalization, ECCV 2018, section 4.2.

    Args:
        channels: Channels of the features.
        num_classes: Number of classes, without background.
        resolution: Side of the pooled features.
        num_convs: Convolutions before the fully connected layers.
        hidden: Features of the fully connected layers.
        norm: Builds the norms of the convolutions; None for no norms.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        resolution: int = 7,
        num_convs: int = 0,
        hidden: Sequence[int] = (1024, 1024),
        norm: NormLayer = None,
    ):
        super().__init__()
        self.resolution = resolution
        self.convs = _make_convs(channels, channels, num_convs, norm)
        widths = (channels * resolution**2, *hidden)
        self.fcs = nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(widths)))
        self.cls_score = nn.Linear(widths[-1], num_classes + 1)
        self.bbox_pred = nn.Linear(widths[-1], 4 * (num_classes + 1))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, resolution, resolution) to logits (N, 1 + classes) and deltas (N, 1 + classes, 4).

        Background comes first.
        """
        x = self.convs(features).flatten(1)
        for layer in self.fcs:
            x = F.relu(layer(x), inplace=True)
        return self.cls_score(x).float(), self.bbox_pred(x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Predicts which part of its box an object covers.

    Source: He et al., Mask R-CNN, ICCV 2017, figure 4 right.

    Args:
        in_channels: Channels of the features.
        num_classes: Number of classes, without background.
        resolution: Side of the pooled features; a mask has twice as many cells per side.
        num_convs: Convolutions before the mask is upsampled.
        channels: Their channels.
        norm: Builds the norms of the convolutions; None for no norms.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        resolution: int = 14,
        num_convs: int = 4,
        channels: int = 256,
        norm: NormLayer = None,
    ):
        super().__init__()
        self.resolution = resolution
        self.convs = _make_convs(in_channels, channels, num_convs, norm)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, num_classes + 1, 1)
        for layer in (self.upsample, self.predictor):
            _init_conv(layer)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(N, in_channels, R, R) and classes (N,), 0 for background, to logits (N, 2 R, 2 R) of their masks."""
        x = F.relu(self.upsample(self.convs(features)), inplace=True)
        # Only the mask of one class is needed, so the last convolution computes no other.
        weight, bias = self.predictor.weight.flatten(1)[labels], cast(Tensor, self.predictor.bias)[labels]
        return torch.einsum("nchw,nc->nhw", x, weight).float() + bias[:, None, None]


class KeypointHead(nn.Module):
    """Predicts where each keypoint of an object is, as a heatmap over its box.

    Source: He et al., Mask R-CNN, ICCV 2017, section 5.

    Args:
        in_channels: Channels of the features.
        num_keypoints: Number of keypoints.
        resolution: Side of the pooled features; a heatmap has four times as many cells per side.
        num_convs: Convolutions before the heatmaps are upsampled.
        channels: Their channels.
    """

    def __init__(
        self, in_channels: int, num_keypoints: int, resolution: int = 14, num_convs: int = 8, channels: int = 512
    ):
        super().__init__()
        self.resolution = resolution
        self.convs = _make_convs(in_channels, channels, num_convs, None)
        self.upsample = nn.ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        _init_conv(self.upsample)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, R, R) to logits (N, num_keypoints, 4 R, 4 R)."""
        x = self.upsample(self.convs(features)).float()
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _make_convs(in_channels: int, channels: int, count: int, norm: NormLayer) -> nn.Sequential:
    widths = (in_channels, *[channels] * count)
    layers = nn.Sequential(*(Conv2dNormActivation(*pair, 3, norm_layer=norm) for pair in pairwise(widths)))
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            _init_conv(layer)
    return layers


def _init_conv(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
