"""SAME padding in integer arithmetic equals timm's, and keeps sizes symbolic in export."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from densevision.nn.padding import SameConv2d, use_integer_padding


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 2, 2), (1, 2, 1), (2, 3, 1), (4, 4, 1)]
)
def test_same__equals_timm(kernel: int, stride: int, dilation: int) -> None:
    network = nn.Sequential(Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2))
    images = [torch.rand(1, 4, height, width) for height in (7, 8, 9, 10) for width in (11, 12, 13)]
    expected = [network(image) for image in images]
    weights = dict(network.named_parameters())
    use_integer_padding(network)
    assert type(network[0]) is SameConv2d and dict(network.named_parameters()) == weights
    for image, output in zip(images, expected):
        assert torch.equal(network(image), output)


def test_same__exports_with_any_size() -> None:
    network = nn.Sequential(Conv2dSame(3, 4, 3, 2), Conv2dSame(4, 4, 5, 2), Conv2dSame(4, 4, 3, 2)).eval()
    use_integer_padding(network)
    size = torch.export.Dim.DYNAMIC
    program = torch.export.export(network, (torch.rand(2, 3, 33, 50),), dynamic_shapes=({0: size, 2: size, 3: size},))
    for height, width in ((33, 50), (64, 64), (47, 18)):
        image = torch.rand(1, 3, height, width)
        torch.testing.assert_close(program.module()(image), network(image))
