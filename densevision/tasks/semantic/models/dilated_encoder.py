"""A timm encoder with dilated deep stages, which gives one shallow and one deep feature map.

Source: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from timm.models.mobilenetv3 import MobileNetV3
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.normalization import normalize_image

__all__ = ["DilatedEncoder", "set_norm_eps"]

SHALLOW_STRIDE = 8
_TORCHVISION_EPS = 1e-3
"""Epsilon of the norms of torchvision's MobileNetV3, which differs from timm's."""
_MOBILENETV3_SHALLOW_STAGE = 2
"""Index of its blocks of stride 8."""


class DilatedEncoder(Backbone):
    """A timm model without its classifier, at a limited stride.

    The deep map is that of the last stage. The shallow one is the deepest other stage of stride 8: the third stage of a
    ResNet of output stride 8. For `mobilenetv3_large_*` it is the first block of that stage, and the first block
    after the last stride is dilated as well, as torchvision builds it.

    Args:
        name: timm model that supports dilation.
        in_channels: Channels of the image.
        output_stride: Stride of the deep map, 8, 16 or 32, unless `options` names one; by default 8 for ResNets and
            16 for others.
        options: Keyword arguments of `densevision.nn.backbone.Backbone`.

    Attributes:
        shallow_channels: Channels of the shallow map.
        deep_channels: Channels of the deep map.

    Raises:
        UsageError: The model cannot be dilated, or has no stage of stride 8 before its last one.
    """

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        output_stride: int | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        options = dict(options or {})
        stride = options.pop("output_stride", None) or output_stride or (8 if name.startswith("resnet") else 16)
        self.is_mobilenetv3 = name.startswith("mobilenetv3_large")
        # timm's whole MobileNetV3 has no option for it.
        super().__init__(name, in_channels, output_stride=None if self.is_mobilenetv3 else stride, **options)
        if self.is_mobilenetv3:
            _dilate_mobilenetv3(self.network, stride)
            set_norm_eps(self.network, _TORCHVISION_EPS)
            self.strides = [min(each, stride) for each in self.strides]
        shallow = [level for level, stride in enumerate(self.strides[:-1]) if stride == SHALLOW_STRIDE]
        if not shallow:
            problem = f"has no stage of stride {SHALLOW_STRIDE} before its last one"
            raise UsageError(problem, field="backbone.name", value=name, hint="Take a ResNet or a MobileNet.")
        self.shallow = shallow[0] if self.is_mobilenetv3 else shallow[-1]
        self.shallow_channels, self.deep_channels = self.channels[self.shallow], self.channels[-1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(B, in_channels, H, W) in [0, 1] to the shallow and the deep map."""
        if not self.is_mobilenetv3:
            levels = super().forward(image)
            return levels[self.shallow], levels[-1]
        network = cast(MobileNetV3, self.network)
        x = normalize_image(image, self.mean, self.std)
        x = network.bn1(network.conv_stem(x))
        shallow = x
        for stage, blocks in enumerate(network.blocks):
            for position, block in enumerate(blocks.children()):
                x = block(x)
                if (stage, position) == (_MOBILENETV3_SHALLOW_STAGE, 0):
                    shallow = x
        return shallow, x


@torch.no_grad()
def set_norm_eps(network: nn.Module, eps: float) -> None:
    """Changes the epsilon of every batch norm in place, and its weight so that the outputs in evaluation stay."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.weight.mul_(((module.running_var + eps) / (module.running_var + module.eps)).sqrt())
            module.eps = eps


def _dilate_mobilenetv3(network: nn.Module, output_stride: int) -> None:
    """Replaces strides beyond `output_stride` by dilation, from the block with the stride on, as torchvision does."""
    stride, dilation = 2, 1
    for name, conv in network.named_modules():
        if not (isinstance(conv, nn.Conv2d) and name.endswith(".conv_dw")):
            continue
        if conv.stride[0] > 1 and stride >= output_stride:
            dilation *= 2
            conv.stride = (1, 1)
        elif conv.stride[0] > 1:
            stride *= 2
        if dilation > 1:
            conv.dilation = (dilation, dilation)
            conv.padding = tuple(dilation * (side - 1) // 2 for side in conv.kernel_size)
