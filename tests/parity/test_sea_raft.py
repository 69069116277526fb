"""SEA-RAFT beside ptlflow's: converted weights give the same flow, mixture and training loss."""

from __future__ import annotations

import pytest
import torch

import densevision
from densevision.tasks.flow.models.sea_raft import SIZES, SeaRaft, convert_state_dict

pytestmark = pytest.mark.parity
ptlflow = pytest.importorskip("ptlflow")


def build_reference(size: str) -> torch.nn.Module:
    """ptlflow's network with random weights and norm statistics, whose flow is a few pixels."""
    torch.manual_seed(0)
    network = ptlflow.get_model(f"sea_raft_{size}")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.3, 0.8)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if hasattr(module, "gamma") and isinstance(module.gamma, torch.nn.Parameter):
            torch.nn.init.uniform_(module.gamma, 0.1, 0.5)
    return network.eval()


def run_reference(network: torch.nn.Module, first: torch.Tensor, second: torch.Tensor, **targets) -> dict:
    """ptlflow takes BGR pairs (B, 2, 3, H, W)."""
    return network({"images": torch.stack([first.flip(1), second.flip(1)], 1), **targets})


def make_pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(batch, 3, height // 8 + 2, width // 8 + 2, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height + 3, width + 3), mode="bicubic").clamp(0, 1)
    return image[..., :-3, :-3].contiguous(), image[..., 3:, 3:].contiguous()


@pytest.mark.parametrize("size", SIZES)
def test_flow__equals_ptlflow(size):
    reference = build_reference(size)
    model = SeaRaft(**SIZES[size]).eval()
    model.load_state_dict(convert_state_dict(reference.state_dict()), strict=True)
    first, second = make_pair(128, 192)
    with torch.inference_mode():
        expected = run_reference(reference, first, second)["flows"][:, 0]
        outputs = model(first=first, second=second)
    assert expected.std() > 0.1
    assert outputs["flow"].shape == (1, 2, 128, 192) and outputs["mixture"].shape == (1, 4, 128, 192)
    torch.testing.assert_close(outputs["flow"], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["sea-raft/s", "sea-raft/s-kitti"])
def test_published_name__converts_and_predicts(name, tmp_path):
    reference = build_reference("s")
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "published.ckpt")
    densevision.convert_weights(name, tmp_path / "published.ckpt", tmp_path / "ours.safetensors")
    first, second = make_pair(128, 160)
    pair = [image[0].permute(1, 2, 0).numpy() for image in (first, second)]
    result = densevision.predict(pair, weights=tmp_path / "ours.safetensors", precision="float32")
    result = result[0] if isinstance(result, list) else result
    with torch.inference_mode():
        expected = run_reference(reference, first, second)["flows"][0, 0]
    torch.testing.assert_close(torch.from_numpy(result.flow), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(131, 150), (150, 129)])
def test_flow__of_sizes_not_divisible_by_8_equals_ptlflow(shape):
    reference = build_reference("s")
    model = SeaRaft(**SIZES["s"]).eval()
    model.load_state_dict(convert_state_dict(reference.state_dict()))
    first, second = make_pair(*shape)
    with torch.inference_mode():
        expected = run_reference(reference, first, second)["flows"][:, 0]
        torch.testing.assert_close(model(first=first, second=second)["flow"], expected, atol=1e-3, rtol=0)


def test_losses_and_gradients__equal_ptlflow():
    reference = build_reference("s")
    model = SeaRaft(**SIZES["s"], gamma=0.8)
    model.load_state_dict(convert_state_dict(reference.state_dict()))
    first, second = make_pair(128, 160, batch=2)
    flow = 5 * torch.randn(2, 2, 128, 160)
    flow[0, :, :20] = 500  # longer than the loss considers
    valid = torch.rand(2, 128, 160) > 0.3

    network = reference.train()  # the mixture's likelihood is computed in training mode only
    outputs = run_reference(network, first, second, flows=flow[:, None])
    expected = network.loss_fn(outputs, {"flows": flow[:, None], "valids": valid[:, None, None].float()})
    expected.backward()
    losses = model.train().compute_losses({"first": first, "second": second}, {"flow": flow, "valid": valid})
    losses["flow"].backward()

    torch.testing.assert_close(losses["flow"], expected, atol=1e-3, rtol=0)
    gradients = convert_state_dict(dict(reference.named_parameters()))
    for name, parameter in model.named_parameters():
        wanted = gradients[name].grad
        error = (parameter.grad - wanted).norm() / wanted.norm().clamp(min=1e-4)
        assert error < 1e-2, name


def test_convert_state_dict__accepts_every_published_layout():
    """Data-parallel checkpoints, Lightning checkpoints, and safetensors without the duplicated norms."""
    reference = build_reference("s").state_dict()
    expected = convert_state_dict(reference)
    deduplicated = {name: tensor for name, tensor in reference.items() if ".downsample.1." not in name}
    assert len(deduplicated) < len(reference)
    for weights in (
        {f"module.{name}": tensor for name, tensor in reference.items()},
        {"state_dict": reference, "hyper_parameters": {}},
        {"model": reference},
        deduplicated,
    ):
        converted = convert_state_dict(weights)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[name], expected[name]) for name in expected)
