"""Norms that stay as they are: the same numbers as torchvision's, in any mode, with a gradient for what lies below."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from densevision.nn.frozen_batch_norm import FrozenBatchNorm2d, FusedConvBN, freeze_batch_norm
from densevision.nn.pretrained import FROZEN, build


def norm() -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(3)
    with torch.no_grad():
        for tensor in (made.weight, made.bias, made.running_mean, made.running_var):
            tensor.uniform_(0.5, 1.5)
    return made


@pytest.mark.parametrize("training", [True, False])
def test_still_norm__equals_torchvisions(training):
    given = norm()
    ours, theirs = FrozenBatchNorm2d(given).train(training), FrozenBatchNorm2d(3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    first, second = ours(x), theirs(x)
    assert torch.allclose(first, second, atol=1e-6)
    weights = torch.randn_like(first)
    gradients = [torch.autograd.grad((one * weights).sum(), x)[0] for one in (first, second)]
    assert torch.allclose(*gradients, atol=1e-6)
    assert not list(ours.parameters()) and torch.equal(ours.running_mean, given.running_mean)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_build__frozen_norms_answer_as_those_in_evaluation(name):
    torch.manual_seed(0)
    usual = timm.create_model(name).eval()
    frozen = build(name, {"norm_layer": FROZEN})
    missing = frozen.load_state_dict(usual.state_dict(), strict=False)
    assert not missing.missing_keys and all("num_batches_tracked" in key for key in missing.unexpected_keys)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(frozen.eval()(image), usual(image), atol=1e-5)


def test_stilled__convolutions_that_do_the_norms_work_learn_alike():
    torch.manual_seed(0)
    usual = timm.create_model("resnet18").eval()
    for module in usual.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    still = freeze_batch_norm(copy.deepcopy(usual))
    assert sum(isinstance(module, FusedConvBN) for module in still.modules()) == 20
    image, weights = torch.rand(1, 3, 64, 64), torch.randn(1, 1000)
    for network in (usual, copy.deepcopy(still)):
        (network(image) * weights).sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters() if "conv" in name}
        if network is usual:
            expected = gradients
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].abs().max())), name


def test_stilled__leaves_nothing_that_learns_in_norms():
    network = freeze_batch_norm(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(norm())))
    assert [name for name, _ in network.named_parameters()] == ["0.weight", "0.bias"]
