"""DeepLabV3 and LR-ASPP as torchvision builds them, on timm encoders.

Sources: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017; Howard et al., Searching for
MobileNetV3, ICCV 2019, section 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.model import Tensors
from densevision.tasks.semantic.models.dilated_model import DilatedModel
from densevision.tasks.semantic.models.fcn import FCNHead

__all__ = ["LRASPP", "DeepLabV3"]


class DeepLabV3(DilatedModel):
    """DeepLabV3: atrous spatial pyramid pooling on a dilated encoder.

    torchvision's published weights need `encoder` `resnet50`, `resnet101` or `mobilenetv3_large_100`, `auxiliary=True`
    and otherwise the defaults. Google's MobileNetV2 for Pascal VOC needs `encoder="mobilenetv2_100"`,
    `atrous_rates=()`, `refine=False`, `align_corners=True`, `input_size=513`, and mean and std 128 / 255.

    Args:
        num_classes: Classes, the background included.
        encoder: timm model that supports dilation.
        auxiliary: Add a fully convolutional head on the encoder's shallow map, which helps training.
        atrous_rates: Dilations of the head's 3x3 branches.
        head_channels: Channels of every branch and of the fused map.
        refine: Put a 3x3 convolution between the fused map and the classifier.
        dropout: Probability that a channel of the fused map is dropped in training.
        align_corners: How the logits are interpolated to the image; see `torch.nn.functional.interpolate`.
        options: Further arguments of `DilatedModel`.
    """

    def __init__(
        self,
        num_classes: int = 21,
        encoder: str = "resnet50",
        *,
        auxiliary: bool = False,
        atrous_rates: tuple[int, ...] = (12, 24, 36),
        head_channels: int = 256,
        refine: bool = True,
        dropout: float = 0.5,
        align_corners: bool = False,
        **options: Any,
    ):
        super().__init__(num_classes, encoder, **options)
        self.align_corners = align_corners
        shallow, deep = self.encoder.shallow_channels, self.encoder.deep_channels
        self.head = DeepLabHead(deep, self.num_outputs, atrous_rates, head_channels, refine, dropout)
        self.auxiliary = FCNHead(shallow, self.num_outputs) if auxiliary else None

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The classifiers of both heads."""
        return "head.classifier", "auxiliary.4"


class LRASPP(DilatedModel):
    """Lite R-ASPP: the deep map is gated by its global average, and scored together with a map of stride 8.

    torchvision's published weights fit the defaults.

    Args:
        num_classes: Classes, the background included.
        encoder: timm model that supports dilation.
        head_channels: Channels of the gated map.
        options: Further arguments of `DilatedModel`.
    """

    output_stride = 16

    def __init__(
        self,
        num_classes: int = 21,
        encoder: str = "mobilenetv3_large_100",
        *,
        head_channels: int = 128,
        **options: Any,
    ):
        super().__init__(num_classes, encoder, **options)
        shallow, deep = self.encoder.shallow_channels, self.encoder.deep_channels
        self.head = LRASPPHead(shallow, deep, self.num_outputs, head_channels)

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The classifiers of both maps."""
        return "head.shallow_classifier", "head.deep_classifier"

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the class of every pixel: (B, C, H, W) RGB in [0, 1] to "logits" (B, num_classes, H, W)."""
        return self._finish({"logits": self.head(*self.encoder(image))}, image)


class DeepLabHead(nn.Module):
    """Atrous spatial pyramid pooling, an optional 3x3 convolution, and the classifier.

    Args:
        in_channels: Channels of the deep map.
        num_outputs: Channels of the scores.
        atrous_rates: Dilations of the 3x3 branches.
        width: Channels of every branch.
        refine: Put a 3x3 convolution before the classifier.
        dropout: Dropout of the fused map.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        atrous_rates: Sequence[int],
        width: int,
        refine: bool,
        dropout: float,
    ):
        super().__init__()
        atrous = (conv_norm_act(in_channels, width, 3, dilation=rate) for rate in atrous_rates)
        self.branches = nn.ModuleList([conv_norm_act(in_channels, width), *atrous])
        self.pooling = conv_norm_act(in_channels, width)
        self.project = conv_norm_act((len(self.branches) + 1) * width, width)
        self.dropout = nn.Dropout(dropout)
        self.refine = conv_norm_act(width, width, 3) if refine else nn.Identity()
        self.classifier = nn.Conv2d(width, num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to scores (B, num_outputs, h, w)."""
        branches = [branch(x) for branch in self.branches]
        pooled = self._pool(x).expand(-1, -1, *x.shape[-2:])
        fused = self.dropout(self.project(torch.cat([*branches, pooled], 1)))
        return self.classifier(self.refine(fused))

    def _pool(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, width, 1, 1)."""
        conv, norm, activation = self.pooling
        x = conv(x.mean((2, 3), keepdim=True))
        if isinstance(norm, nn.BatchNorm2d) and norm.training and len(x) == 1:
            # One image has one value per channel, which has no variance: its norm uses the running statistics.
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
            return activation(x)
        return activation(norm(x))


class LRASPPHead(nn.Module):
    """Lite R-ASPP.

    Args:
        shallow_channels: Channels of the shallow map.
        deep_channels: Channels of the deep map.
        num_outputs: Channels of the scores.
        width: Channels of the gated map.
    """

    def __init__(self, shallow_channels: int, deep_channels: int, num_outputs: int, width: int):
        super().__init__()
        self.project = conv_norm_act(deep_channels, width)
        self.gate = nn.Conv2d(deep_channels, width, 1, bias=False)
        self.shallow_classifier = nn.Conv2d(shallow_channels, num_outputs, 1)
        self.deep_classifier = nn.Conv2d(width, num_outputs, 1)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Both maps to scores (B, num_outputs, h, w) of the shallow map's size."""
        gated = self.project(deep) * self.gate(deep.mean((2, 3), keepdim=True)).sigmoid()
        gated = F.interpolate(gated, shallow.shape[-2:], mode="bilinear", align_corners=False)
        return self.shallow_classifier(shallow) + self.deep_classifier(gated)


def conv_norm_act(in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, batch norm and ReLU."""
    padding = dilation * (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
