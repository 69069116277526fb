"""The inference form computes what the network computes, and leaves the network as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from densevision.nn.frozen_batch_norm import freeze_batch_norm
from densevision.nn.inference_form import make_inference_form

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Convolutions and norms in an order that only running it reveals."""

    def __init__(self, kind: str = "plain"):
        super().__init__()
        self.kind = kind
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.up_norm = nn.BatchNorm2d(8)
        self.act = nn.LeakyReLU(0.2)
        self.linear = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        if self.kind == "two readers":
            x = self.norm(x) + x
        elif self.kind == "activation first":
            x = self.norm(self.act(x))
        elif self.kind == "weight is read":
            x = self.norm(x) + self.conv.weight.mean()
        elif self.kind == "changed in place":
            x = self.norm(x.mul_(2))
        else:
            x = self.act(self.norm(x))
        x = self.up_norm(self.up(x)).flatten(2).mT
        if self.kind == "single precision":
            with torch.autocast(x.device.type, enabled=False):
                return self.linear(x.float())
        return self.linear(x)


def make_net(kind: str = "plain") -> Net:
    torch.manual_seed(0)
    net = Net(kind)
    with torch.no_grad():
        for tensor in (*net.norm.state_dict().values(), *net.up_norm.state_dict().values()):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return net.eval()


def count_norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize(
    ("kind", "norms"),
    [("plain", 0), ("two readers", 1), ("activation first", 1), ("weight is read", 1), ("changed in place", 1)],
)
def test_form__equals_the_network(kind: str, norms: int) -> None:
    net = make_net(kind)
    before = copy.deepcopy(net.state_dict())
    form = make_inference_form(net, {"image": IMAGE})
    with torch.no_grad():
        torch.testing.assert_close(form(IMAGE), net(IMAGE), rtol=1e-5, atol=1e-5)
        small, large = IMAGE[..., :9, :8], torch.cat([IMAGE, IMAGE], 2)
        for image in (small, large, small):
            torch.testing.assert_close(form(image), net(image), rtol=1e-5, atol=1e-5)
    assert count_norms(form) == norms and count_norms(net) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_built_inside", [False, True])
def test_form__callers_in_inference_mode_get_it_too(dtype: torch.dtype, is_built_inside: bool) -> None:
    with torch.inference_mode(is_built_inside):
        net = make_net()
    with torch.inference_mode():
        form = make_inference_form(net, {"image": IMAGE.clone()}, dtype=dtype)
        assert count_norms(form) == 0
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output, expected = form(IMAGE), net(IMAGE)
    torch.testing.assert_close(output, expected, rtol=0.03, atol=0.03)


def test_form__frozen_norms_are_folded() -> None:
    net = freeze_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())).eval()
    net[1].running_mean.fill_(0.3)
    net[1].running_var.fill_(2.0)
    form = make_inference_form(net, {"input": IMAGE})
    torch.testing.assert_close(form(IMAGE), net(IMAGE).detach(), rtol=1e-5, atol=1e-5)
    assert not any("weight" in name for name, _ in form.named_parameters())


@pytest.mark.parametrize("kind", ["plain", "single precision"])
def test_form__half_precision_converts_what_autocast_would(kind: str) -> None:
    net = make_net(kind)
    form = make_inference_form(net, {"image": IMAGE}, dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected, output = net(IMAGE), form(IMAGE)
    assert output.dtype == expected.dtype
    assert form.linear.weight.dtype == (torch.bfloat16 if kind == "plain" else torch.float32)
    torch.testing.assert_close(output, expected, rtol=0.03, atol=0.03)


def test_form__shares_what_it_does_not_change() -> None:
    net = make_net()
    form = make_inference_form(net, {"image": IMAGE})
    assert form.linear.weight.data_ptr() == net.linear.weight.data_ptr()


def test_form__network_that_refuses_small_images_is_used_as_it_is() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def forward(self, image: Tensor) -> Tensor:
            if image.shape[-1] < 48:
                raise RuntimeError("too small")
            return self.net(image)

    net = Picky().eval()
    form = make_inference_form(net, {"image": IMAGE[..., :16]})
    torch.testing.assert_close(form(IMAGE), net(IMAGE), rtol=1e-5, atol=1e-5)
    assert count_norms(form) == 2
