"""Necks: sizes, gradients, and FPN against torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densevision.nn.blocks import Bottleneck, ConvNormAct, CSPStage
from densevision.nn.necks import FPN, PAN


def levels_of(channels: list[int], height: int, width: int, stride: int = 8) -> list[Tensor]:
    sizes = [(-(-height // (stride << i)), -(-width // (stride << i))) for i in range(len(channels))]
    return [torch.randn(2, inputs, *size, requires_grad=True) for inputs, size in zip(channels, sizes)]


@pytest.mark.parametrize("channels", [[8, 12, 16], [5, 6], [7], [4, 4, 4, 4, 4]])
@pytest.mark.parametrize("size", [(128, 96), (97, 65)])
def test_pan__keeps_the_sizes(channels: list[int], size: tuple[int, int]) -> None:
    levels = levels_of(channels, *size)
    outputs = PAN(channels, 16, 2)(levels)
    assert [output.shape for output in outputs] == [(2, 16, *level.shape[-2:]) for level in levels]


def test_pan__one_cell() -> None:
    outputs = PAN([8, 8, 8], 16, 1).eval()(levels_of([8, 8, 8], 1, 1))
    assert [tuple(output.shape) for output in outputs] == [(2, 16, 1, 1)] * 3


def test_pan__every_output_depends_on_every_level() -> None:
    levels = levels_of([8, 12, 16], 97, 65)
    neck = PAN([8, 12, 16], 16, 1)
    for output in neck(levels):
        gradients = torch.autograd.grad(output.square().sum(), levels, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
    sum(output.square().sum() for output in neck(levels)).backward()
    assert [name for name, parameter in neck.named_parameters() if parameter.grad is None] == []


def test_pan__number_of_parameters() -> None:
    def size(width: int, depth: int) -> int:
        return sum(parameter.numel() for parameter in PAN([8, 8, 8], width, depth).parameters())

    # Each further block of the four stages is two 3x3 convolutions of half the width, and its channels in the last one.
    block = 2 * (9 * 8 * 8 + 2 * 8) + 8 * 16
    assert size(16, 2) - size(16, 1) == 4 * block
    assert size(32, 1) > 3 * size(16, 1)


def test_csp_stage__first_half_bypasses_the_blocks() -> None:
    stage = CSPStage(6, 8, depth=3).eval()
    for block in stage.blocks:
        nn.init.zeros_(block.convs[1][1].weight)
        nn.init.zeros_(block.convs[1][1].bias)
    x = torch.randn(1, 6, 5, 7)
    first, second = stage.conv_in(x).chunk(2, 1)
    # Blocks whose last norm is zero are identities, so each step repeats the second half.
    torch.testing.assert_close(stage(x), stage.conv_out(torch.cat([first, *[second] * 4], 1)))


def test_conv_norm_act__equals_its_formula() -> None:
    layer, x = ConvNormAct(3, 4, kernel_size=3, stride=2).eval(), torch.randn(1, 3, 9, 8)
    conv, norm, _ = layer
    expected = nn.functional.conv2d(x, conv.weight, None, 2, 1) / (1 + norm.eps) ** 0.5
    torch.testing.assert_close(layer(x), expected * expected.sigmoid())
    assert conv.bias is None and Bottleneck(4)(layer(x)).shape == (1, 4, 5, 4)


@pytest.mark.parametrize("extra", [False, True])
def test_fpn__equals_torchvision(extra: bool) -> None:
    channels = [8, 12, 16, 20]
    neck = FPN(channels, 6, extra)
    reference = FeaturePyramidNetwork(channels, 6, LastLevelMaxPool() if extra else None)
    reference.load_state_dict(neck.pyramid.state_dict())
    levels = levels_of(channels, 97, 130, stride=4)
    expected = reference(OrderedDict(zip("abcd", levels)))
    outputs = neck(levels)
    assert len(outputs) == len(expected) == 4 + extra
    for output, level in zip(outputs, expected.values()):
        assert torch.equal(output, level)
