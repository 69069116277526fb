"""Norms that were folded into convolutions: found, measured, and rewritten without a change of the predictions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from densevision.nn.folded_norms import find_folded_norms, unfold_norms


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.SiLU(),
        nn.Conv2d(8, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3),
    )  # fmt: skip
    for norm in (network[1], network[4]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    network.train()
    for _ in range(50):  # real statistics
        network(make_images())
    return network.eval()


def make_images() -> Tensor:
    return torch.randn(16, 3, 12, 12) * torch.tensor([1.0, 3.0, 0.5])[:, None, None] + 1


@torch.no_grad()
def fold(network: nn.Sequential) -> nn.Sequential:
    """As converters for inference do, by torch's own fusion."""
    folded = copy.deepcopy(network)
    for conv, norm in ((folded[0], folded[1]), (folded[3], folded[4])):
        weight, bias = fuse_conv_bn_weights(
            conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight.copy_(weight)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
    return folded


def test_find_folded_norms__only_folded_ones():
    network = make_network()
    assert find_folded_norms(network) == []
    assert find_folded_norms(fold(network)) == ["1", "4"]
    assert find_folded_norms(nn.Sequential(nn.BatchNorm2d(3))) == [], "new norms have no bias"


def test_unfold_norms__gives_the_statistics_back():
    network = make_network()
    folded = fold(network)
    image = make_images()
    expected = folded(image)
    unfold_norms(folded, ["1", "4"], [make_images() for _ in range(50)], folded)
    torch.testing.assert_close(folded(image), expected, rtol=1e-4, atol=1e-5)
    assert not folded.training and find_folded_norms(folded) == []
    # Folding scales the convolution by weight / std, so the ratio of norm scale and std is 1.
    for norm, original in ((folded[1], network[1]), (folded[4], network[4])):
        scale = original.weight * (original.running_var + original.eps).rsqrt()
        torch.testing.assert_close(norm.running_mean, original.running_mean * scale, rtol=0.05, atol=0.02)
        torch.testing.assert_close(norm.running_var, original.running_var * scale**2, rtol=0.05, atol=0.02)
        torch.testing.assert_close(norm.weight, original.weight, rtol=0.05, atol=0.02)


def test_unfold_norms__training_mode_then_computes_the_same_function():
    folded = fold(make_network())
    image = make_images()
    expected, wrong = folded(image), copy.deepcopy(folded).train()(image)
    unfold_norms(folded, find_folded_norms(folded), [image], folded)
    torch.testing.assert_close(folded.train()(image), expected, rtol=1e-3, atol=1e-3)
    assert (wrong - expected).abs().max() > 0.5, "without the measurement it would be another function"


def test_unfold_norms__modes_are_restored_and_inputs_required():
    folded = fold(make_network()).train()
    folded[1].eval()
    unfold_norms(folded, ["1"], [make_images()], folded)
    assert folded.training and folded[4].training and not folded[1].training
    with pytest.raises(ValueError):
        unfold_norms(folded, ["4"], [], folded)
