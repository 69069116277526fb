"""TensorFlow's SAME padding in integer arithmetic."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

__all__ = ["Pair", "SameConv2d", "use_integer_padding"]

Pair = tuple[int, int]


class SameConv2d(nn.Conv2d):
    """A convolution whose output is the input divided by the stride and rounded up, padded as TensorFlow does.

    Equals timm's `Conv2dSame`, which divides in floating point: torch.export cannot keep the image's size symbolic
    through that.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride)); odd rows and columns of padding come last."""
        padding: list[int] = []
        for size, kernel, stride, dilation in zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation):
            kernel_extent = (kernel - 1) * dilation + 1
            total = kernel_extent - stride + -size % stride
            if kernel_extent < stride:
                total = cast(int, torch.sym_max(total, 0))
            padding = [total // 2, total - total // 2, *padding]
        x = F.pad(x, padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def use_integer_padding(network: nn.Module) -> None:
    """Replaces, in place, every `Conv2dSame` of a timm model by a `SameConv2d` with the same parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is Conv2dSame:
                setattr(parent, name, _convert(child))


def _convert(conv: Conv2dSame) -> SameConv2d:
    same = SameConv2d(
        conv.in_channels,
        conv.out_channels,
        cast(Pair, conv.kernel_size),
        cast(Pair, conv.stride),
        dilation=cast(Pair, conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same
