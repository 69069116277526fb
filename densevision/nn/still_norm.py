"""Batch norms that are never trained, as fast as those that are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class StillNorm(nn.Module):
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
        self.drop, self.act = getattr(norm, "drop", None), getattr(norm, "act", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        for layer in (self.drop, self.act):
            x = x if layer is None else layer(x)
        return x


def stilled(network: nn.Module) -> nn.Module:
    """The network, in place, with every batch norm in it replaced by a still one."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            setattr(network, name, StillNorm(child))
        else:
            stilled(child)
    return network
