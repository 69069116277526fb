"""Gradients of depthwise convolutions in bfloat16 on the CPU.

oneDNN has no fast kernels for two of them in bfloat16: of the input where the convolution is strided (288 channels,
40 x 40: 31 ms, in float32 1 ms), and of weights larger than 3 x 3 (240 channels, 40 x 40, 5 x 5: 58 and 16 ms). These
are computed in float32 here, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["FastDepthwiseGradients"]

Size = int | Sequence[int]

LARGEST_FAST_KERNEL = 3


class FastDepthwiseGradients(TorchFunctionMode):
    """Within this block, depthwise convolutions under autocast to bfloat16 on the CPU get fast gradients.

    Outputs are the same to the bit; gradients that are computed in float32 are rounded less often.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch."""
        if function is torch.conv2d:
            return _convolve(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _convolve(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    is_depthwise = groups == input.shape[1] == weight.shape[0]
    is_strided, is_large = _find_largest(stride) > 1, max(weight.shape[2:]) > LARGEST_FAST_KERNEL
    if not is_depthwise or isinstance(padding, str) or not (is_strided or is_large) or not _trains_in_bfloat16(input):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    pairs = [[size] * 2 if isinstance(size, int) else list(size) for size in (stride, padding, dilation)]
    with torch.autocast("cpu", enabled=False):
        tensors = (None if tensor is None else tensor.bfloat16() for tensor in (input, weight, bias))
        return _DepthwiseConvolution.apply(*tensors, *pairs)


def _find_largest(size: Size) -> int:
    return size if isinstance(size, int) else max(size)


def _trains_in_bfloat16(image: Tensor) -> bool:
    return (
        image.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _DepthwiseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.pairs, ctx.bias_shape = (stride, padding, dilation), None if bias is None else list(bias.shape)
        return torch.conv2d(image, weight, bias, stride, padding, dilation, image.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        stride, *_ = ctx.pairs
        wants_image, *wants_weights = ctx.needs_input_grad[:3]
        is_large = max(weight.shape[2:]) > LARGEST_FAST_KERNEL

        def compute(image: Tensor, is_wide: bool, mask: list[bool]) -> tuple[Tensor | None, ...]:
            dtype = torch.float32 if is_wide else gradient.dtype
            options = (ctx.bias_shape, *ctx.pairs, False, [0, 0], image.shape[1], mask)
            tensors = gradient.to(dtype), image.to(dtype), weight.to(dtype)
            results = torch.ops.aten.convolution_backward(*tensors, *options)
            return tuple(None if tensor is None else tensor.to(gradient.dtype) for tensor in results)

        of_image = of_weight = of_bias = None
        if wants_image:
            is_wide = max(stride) > 1
            # Of the map only shape and layout are read here.
            shape = torch.empty_like(image, dtype=torch.float32) if is_wide else image
            of_image = compute(shape, is_wide, [True, False, False])[0]
        if any(wants_weights):
            _, of_weight, of_bias = compute(image, is_large, [False, *wants_weights])
        return of_image, of_weight, of_bias, None, None, None
