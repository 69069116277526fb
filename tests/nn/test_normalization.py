"""Normalization of images in both layouts."""

from __future__ import annotations

import pytest
import torch

from densevision.nn.normalization import normalize_image


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_each_layout_gives_the_same_numbers_in_its_own_layout(batch: int, channels: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(batch, channels, 7, 5)
    mean, std = torch.rand(1, channels, 1, 1), torch.rand(1, channels, 1, 1) + 0.1
    expected = torch.stack([(image[:, i] - mean[0, i, 0, 0]) / std[0, i, 0, 0] for i in range(channels)], dim=1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        laid_out = image.contiguous(memory_format=memory_format)
        before = laid_out.clone()
        normalized = normalize_image(laid_out, mean, std)
        assert torch.equal(normalized, expected) and normalized.is_contiguous(memory_format=memory_format)
        assert torch.equal(laid_out, before)


def test_gradients_reach_the_image() -> None:
    image = torch.rand(1, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    std = torch.tensor([0.5, 0.25, 2.0]).reshape(1, 3, 1, 1)
    normalize_image(image, torch.zeros(1, 3, 1, 1), std).sum().backward()
    assert image.grad is not None and torch.equal(image.grad, (1 / std).expand_as(image))
