"""Convolutions of oneDNN whose weights are laid out once and that apply the activation to what they just computed.

PyTorch's own convolutions lay out the weights at every call, and an activation reads and writes the map once more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PackedConv2d", "can_pack"]

_POST_OPERATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.SiLU: "swish",
    nn.Hardswish: "hardswish",
    nn.LeakyReLU: "leaky_relu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def can_pack(conv: nn.Module, device: torch.device) -> bool:
    """Whether this machine has the operators, and they compute this convolution in the type of its weight."""
    if device.type != "cpu" or type(conv) is not nn.Conv2d or not torch.backends.mkldnn.is_available():
        return False
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    operators = torch.ops.mkldnn
    if not hasattr(operators, "_convolution_pointwise") or not hasattr(operators, "_reorder_convolution_weight"):
        return False
    if conv.weight.dtype == torch.bfloat16:
        return bool(operators._is_mkldnn_bf16_supported())
    return conv.weight.dtype == torch.float32


class PackedConv2d(nn.Module):
    """A convolution, and the activation behind it, on the CPU.

    The layout of the weights suits the largest map so far, within a factor of two; oneDNN rearranges them for others.

    Args:
        conv: The convolution; see `can_pack`.
        activation: The activation, one of `densevision.nn.call_trace.ACTIVATIONS`; None for none.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None):
        super().__init__()
        self.arguments = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self.operation = "none" if activation is None else _POST_OPERATIONS[type(activation)]
        scalars: list[Any] = [0.0, 6.0] if isinstance(activation, nn.ReLU6) else []
        self.scalars = [activation.negative_slope] if isinstance(activation, nn.LeakyReLU) else scalars
        self.dtype = conv.weight.dtype
        # No parameters: oneDNN's tensors cannot be moved or converted as `nn.Module` does it.
        self.bias = None if conv.bias is None else conv.bias.detach()
        self._packed = conv.weight.detach(), 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        weight, size = self._packed
        if x.shape[2] * x.shape[3] > 2 * size:
            weight = weight.to_dense() if weight.is_mkldnn else weight
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.arguments, list(x.shape))
            self._packed = weight, x.shape[2] * x.shape[3]
        return torch.ops.mkldnn._convolution_pointwise(
            x.to(self.dtype), weight, self.bias, *self.arguments, self.operation, self.scalars, ""
        )
