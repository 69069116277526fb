"""Batch norms that are never trained, as fast as those that are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenBatchNorm2d(nn.Module):
    """A batch norm whose statistics, scale and shift are constants, in training and evaluation alike.

    One pass over its input: torchvision's and timm's frozen norms multiply and add in two, and take as long as a
    convolution where maps are large.

    Args:
        norm: The batch norm whose numbers it takes, and whose activation where it has one, as many of timm's do.
    """

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        usual = {"weight": torch.ones_like, "bias": torch.zeros_like}
        for name in ("weight", "bias", "running_mean", "running_var"):
            own = getattr(norm, name)
            own = usual[name](norm.running_var) if own is None else own
            self.register_buffer(name, own.detach().clone())
        self.eps = norm.eps
        self.done = False
        self.drop, self.act = getattr(norm, "drop", None), getattr(norm, "act", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if not self.done:
            x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        for layer in (self.drop, self.act):
            x = x if layer is None else layer(x)
        return x

    def affine(self) -> tuple[Tensor, Tensor]:
        """What it multiplies each channel by, and then adds to it: (C,) each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FusedConvBN(nn.Conv2d):
    """A convolution that does the work of the still norm behind it, by other weights: those cost less than a map.

    Args:
        conv: Lends its weights, which stay trainable and keep their name.
        norm: Follows it and is told so; its numbers stay where they are.
    """

    def __init__(self, conv: nn.Conv2d, norm: FrozenBatchNorm2d):
        form = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
        with torch.device("meta"):
            super().__init__(conv.in_channels, conv.out_channels, *form, bias=False, padding_mode=conv.padding_mode)
        self.weight = conv.weight
        self.norm = (norm,)  # a tuple, for a module belongs to one parent
        norm.done = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to what convolution and norm make of it."""
        scale, shift = self.norm[0].affine()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """The network, in place, with every batch norm in it replaced by a still one.

    Where it is sure that a convolution feeds its norm and nothing else, the convolution does the norm's work.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, FrozenBatchNorm2d(child))
        for first, second in list(_pairs(module)):
            conv, norm = getattr(module, first, None), getattr(module, second, None)
            if type(conv) is nn.Conv2d and conv.bias is None and isinstance(norm, FrozenBatchNorm2d):
                setattr(module, first, FusedConvBN(conv, norm))
    return network


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of children of which the first feeds the second and nothing else."""
    if isinstance(module, nn.Sequential):
        yield from pairwise(name for name, _ in module.named_children())
    if isinstance(module, (BasicBlock, Bottleneck, ResNet)):
        yield from ((f"conv{number}", f"bn{number}") for number in (1, 2, 3))
