"""Shapes without torch's rules equal those of real convolutions."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevision.nn.shape_inference import ShapeInference


@pytest.mark.parametrize("size", [(9, 12), (1, 1)])
def test_shapes__equal_real_ones(size: tuple[int, int]) -> None:
    for kernel, stride, padding, dilation, groups in itertools.product(
        (1, 3, (3, 2)), (1, 2, (2, 3)), (0, 1, (1, 2), "same"), (1, 2), (1, 2)
    ):
        if padding == "same" and stride != 1:
            continue
        conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups)
        net = nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU6(inplace=True)).eval()
        image = torch.zeros(2, 4, *size)
        try:
            expected = net(image)
        except RuntimeError:
            expected = None
        net.to("meta")
        with ShapeInference():
            if expected is None:
                with pytest.raises(RuntimeError):
                    net(image.to("meta"))
            else:
                output = net(image.to("meta"))
                assert output.shape == (output + output).shape == expected.shape


def test_shapes__refuse_what_torch_refuses() -> None:
    image, weight = torch.zeros(1, 3, 8, 8, device="meta"), torch.zeros(4, 2, 3, 3, device="meta")
    with ShapeInference(), pytest.raises(RuntimeError):
        F.conv2d(image, weight)


def test_shapes__real_tensors_are_computed() -> None:
    with ShapeInference():
        assert F.relu(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[[[0.0, 2.0]]]]
