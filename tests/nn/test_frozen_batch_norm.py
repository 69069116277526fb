"""Frozen batch norms equal torchvision's in any mode, and pass the same gradient to the layers before."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from densevision.nn.frozen_batch_norm import FrozenBatchNorm2d, FusedConvBN, freeze_batch_norm
from densevision.nn.pretrained import FROZEN_BATCH_NORM, build_network


def make_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize("training", [True, False])
def test_forward_and_gradient__equal_torchvision(training):
    source = make_norm()
    ours, torchvision = FrozenBatchNorm2d(source).train(training), TorchvisionFrozenBatchNorm2d(3)
    torchvision.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    first, second = ours(x), torchvision(x)
    assert torch.allclose(first, second, atol=1e-6)
    weights = torch.randn_like(first)
    gradients = [torch.autograd.grad((one * weights).sum(), x)[0] for one in (first, second)]
    assert torch.allclose(*gradients, atol=1e-6)
    assert not list(ours.parameters()) and torch.equal(ours.running_mean, source.running_mean)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_build_network__frozen_norms_equal_norms_in_evaluation(name):
    torch.manual_seed(0)
    reference = timm.create_model(name).eval()
    frozen = build_network(name, {"norm_layer": FROZEN_BATCH_NORM})
    missing = frozen.load_state_dict(reference.state_dict(), strict=False)
    assert not missing.missing_keys and all("num_batches_tracked" in key for key in missing.unexpected_keys)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(frozen.eval()(image), reference(image), atol=1e-5)


def test_freeze__fused_convolutions_have_the_same_gradients():
    torch.manual_seed(0)
    reference = timm.create_model("resnet18").eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    frozen = freeze_batch_norm(copy.deepcopy(reference))
    assert sum(isinstance(module, FusedConvBN) for module in frozen.modules()) == 20
    image, weights = torch.rand(1, 3, 64, 64), torch.randn(1, 1000)
    for network in (reference, copy.deepcopy(frozen)):
        (network(image) * weights).sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters() if "conv" in name}
        if network is reference:
            expected = gradients
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].abs().max())), name


def test_freeze__norms_have_no_parameters():
    network = freeze_batch_norm(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(make_norm())))
    assert [name for name, _ in network.named_parameters()] == ["0.weight", "0.bias"]
