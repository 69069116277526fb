"""Shapes of feature maps on the meta device, without the parts of torch that take seconds to import."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["ShapeInference"]

_KEEP_SHAPE = {
    *(F.batch_norm, F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.silu, F.mish, F.gelu, F.hardswish),
    *(F.hardsigmoid, F.sigmoid, F.tanh),
}
_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}


class ShapeInference(TorchFunctionMode):
    """Within the context, convolutions, batch norms, activations and sums on the meta device compute shapes alone.

    torch's own rules for them import its compiler and sympy. Gradients do not flow through these outputs.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].is_meta and args[0].ndim == 4:
            if func in _KEEP_SHAPE:
                return args[0].new_empty(args[0].shape)
            if func in _SUMS and len(args) == 2 and getattr(args[1], "shape", None) == args[0].shape and not kwargs:
                return args[0].new_empty(args[0].shape)
            if func is F.conv2d and not any(isinstance(each, str) for each in (*args, *kwargs.values())):
                return _convolve(*args, **kwargs)
        return func(*args, **kwargs)


def _convolve(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """An empty map of the shape that `F.conv2d` returns."""
    if image.shape[1] != weight.shape[1] * groups:
        raise RuntimeError(f"{image.shape[1]} channels for a convolution of {weight.shape[1] * groups}")
    sides = []
    for axis in (0, 1):
        step, pad, spread = (_get_side(each, axis) for each in (stride, padding, dilation))
        extent = (weight.shape[2 + axis] - 1) * spread + 1
        if image.shape[2 + axis] + 2 * pad < extent:
            raise RuntimeError("the kernel is larger than the padded input")
        sides.append((image.shape[2 + axis] + 2 * pad - extent) // step + 1)
    return image.new_empty((image.shape[0], weight.shape[0], *sides))


def _get_side(value: Any, axis: int) -> int:
    return value if isinstance(value, int) else value[axis % len(value)]
