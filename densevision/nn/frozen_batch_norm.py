"""Frozen batch norm, fused into the convolution before it where possible."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densevision.nn.padding import Pair

__all__ = ["FrozenBatchNorm2d", "FusedConvBN", "freeze_batch_norm"]


class FrozenBatchNorm2d(nn.Module):
    """A batch norm whose statistics, scale and shift are constants in training and evaluation.

    It makes one pass over its input; torchvision's and timm's frozen norms multiply and add in two passes, which cost
    as much as a convolution on large maps.

    Args:
        norm: The batch norm whose values, and activation if it has one (as in timm's `BatchNormAct2d`), are taken over.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a norm without running statistics cannot be frozen")
        weight = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        bias = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias
        values = {"weight": weight, "bias": bias, "running_mean": norm.running_mean, "running_var": norm.running_var}
        for name, value in values.items():
            self.register_buffer(name, value.detach().clone())
        self.eps = norm.eps
        self.is_fused = False
        self.drop, self.act = getattr(norm, "drop", None), getattr(norm, "act", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); only the activation where a `FusedConvBN` has applied the norm already."""
        if not self.is_fused:
            x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        for layer in (self.drop, self.act):
            x = x if layer is None else layer(x)
        return x

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Factor and offset of each channel, (C,) each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FusedConvBN(nn.Conv2d):
    """A convolution that applies the frozen norm behind it by scaling its weights instead of its output.

    Args:
        conv: Its weights are shared; they stay trainable and keep their name.
        norm: The norm behind it; it is marked as fused and keeps its buffers.
    """

    def __init__(self, conv: nn.Conv2d, norm: FrozenBatchNorm2d):
        with torch.device("meta"):
            super().__init__(*_list_arguments(conv), bias=False, padding_mode=conv.padding_mode)
        self.weight = conv.weight
        self.norm = (norm,)  # a tuple, because a module must have one parent
        norm.is_fused = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the normalized output of the convolution."""
        scale, shift = self.norm[0].scale_and_shift()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)

    def rewrite_for_inference(self) -> nn.Module:
        """A plain convolution with the scaled weights; see `densevision.nn.inference_form`."""
        scale, shift = self.norm[0].scale_and_shift()
        conv = nn.Conv2d(*_list_arguments(self), padding_mode=self.padding_mode, device="meta")
        conv.weight = nn.Parameter(self.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(shift, requires_grad=False)
        return conv


def _list_arguments(conv: nn.Conv2d) -> tuple[int, int, Pair, Pair, str | Pair, Pair, int]:
    """The first arguments of the constructor of a convolution, up to the number of groups."""
    sizes = cast(Pair, conv.kernel_size), cast(Pair, conv.stride), cast("str | Pair", conv.padding)
    return conv.in_channels, conv.out_channels, *sizes, cast(Pair, conv.dilation), conv.groups


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """Replaces every batch norm by a frozen one, in place, and returns the network.

    Norms are fused into convolutions that certainly feed nothing else.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, FrozenBatchNorm2d(child))
        for first, second in list(_list_pairs(module)):
            conv, norm = getattr(module, first, None), getattr(module, second, None)
            if type(conv) is nn.Conv2d and conv.bias is None and isinstance(norm, FrozenBatchNorm2d):
                setattr(module, first, FusedConvBN(conv, norm))
    return network


def _list_pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of children of which the first feeds the second and nothing else."""
    if isinstance(module, nn.Sequential):
        yield from pairwise(name for name, _ in module.named_children())
    if isinstance(module, (BasicBlock, Bottleneck, ResNet)):
        yield from ((f"conv{number}", f"bn{number}") for number in (1, 2, 3))
