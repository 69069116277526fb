"""Gradients of depthwise convolutions in bfloat16, beside those of float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.nn.depthwise_gradients import FastDepthwiseGradients

CHANNELS = 24


def compute(conv: nn.Conv2d, image: Tensor, upstream: Tensor, is_fast: bool) -> list[Tensor]:
    """The output, and the gradients of image, weight and bias, under autocast to bfloat16."""
    image = image.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if is_fast:
            with FastDepthwiseGradients():
                output = conv(image)
        else:
            output = conv(image)
    output.backward(upstream.to(output.dtype))
    gradients = [image.grad, *(parameter.grad for parameter in conv.parameters())]
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


def compute_exactly(conv: nn.Conv2d, image: Tensor, upstream: Tensor) -> list[Tensor]:
    """The same in float64 from the same rounded numbers."""
    image = image.bfloat16().double().requires_grad_()
    parameters = [parameter.detach().bfloat16().double().requires_grad_() for parameter in conv.parameters()]
    weight, bias = parameters if len(parameters) == 2 else (parameters[0], None)
    output = nn.functional.conv2d(image, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    output.backward(upstream.bfloat16().double())
    gradients = [image.grad, *(parameter.grad for parameter in parameters)]
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_as_in_double_precision(kernel: int, stride: int | tuple[int, int], dilation: int, bias: bool) -> None:
    torch.manual_seed(0)
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation, CHANNELS, bias)
    image = torch.randn(2, CHANNELS, 17, 18).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(conv(image))
    plain, fast, exact = (
        compute(conv, image, upstream, False),
        compute(conv, image, upstream, True),
        compute_exactly(conv, image, upstream),
    )
    assert torch.equal(fast[0], plain[0])
    for gradient, expected in zip(fast, exact):
        # bfloat16 has 8 significant bits
        torch.testing.assert_close(gradient.double(), expected, rtol=2**-8, atol=2**-8 * expected.abs().max().item())
    assert [gradient.dtype for gradient in fast] == [gradient.dtype for gradient in plain]


def test_frozen_weights_get_no_gradient() -> None:
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1, groups=CHANNELS).requires_grad_(False)
    image = torch.randn(2, CHANNELS, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), FastDepthwiseGradients():
        conv(image).sum().backward()
    assert image.grad is not None and conv.weight.grad is None


@pytest.mark.parametrize("groups", [1, 4])
def test_other_convolutions_and_precisions_stay(groups: int) -> None:
    torch.manual_seed(0)
    conv, image = nn.Conv2d(16, 32, 5, 2, 2, groups=groups), torch.randn(1, 16, 9, 9)
    upstream = torch.randn_like(conv(image))
    for one, other in zip(compute(conv, image, upstream, True), compute(conv, image, upstream, False)):
        assert torch.equal(one, other)
    depthwise = nn.Conv2d(16, 16, 5, 2, 2, groups=16)
    with FastDepthwiseGradients():
        inside = torch.autograd.grad(depthwise(image).sum(), depthwise.weight)[0]
    assert torch.equal(inside, torch.autograd.grad(depthwise(image).sum(), depthwise.weight)[0])
