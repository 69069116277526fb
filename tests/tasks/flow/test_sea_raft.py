"""SEA-RAFT: its likelihood beside torch.distributions, its correlation beside plain sums, and unusual input."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Laplace, MixtureSameFamily

from densevision.tasks.flow.models.correlation import correlate
from densevision.tasks.flow.models.sea_raft import SIZES, SeaRaft
from densevision.tasks.flow.models.sea_raft_layers import (
    TruncatedResNet,
    laplace_mixture_nll,
)


@pytest.fixture(scope="module")
def model() -> SeaRaft:
    torch.manual_seed(0)
    return SeaRaft("resnet18", iterations=2, training_iterations=2, hidden_channels=32)


def make_batch(height: int = 64, width: int = 72, batch: int = 2) -> tuple[dict, dict]:
    first, second = torch.rand(2, batch, 3, height, width)
    targets = {"flow": torch.randn(batch, 2, height, width), "valid": torch.rand(batch, height, width) > 0.2}
    return {"first": first, "second": second}, targets


def test_laplace_mixture_nll__equals_torch_distributions():
    flow, target = 3 * torch.randn(2, 1, 2, 4, 5)
    logits, log_scales = torch.randn(2, 1, 2, 4, 5)
    weights = Categorical(logits=logits.permute(0, 2, 3, 1)[:, None].expand(-1, 2, -1, -1, -1))
    locations = flow[..., None].expand(-1, -1, -1, -1, 2)
    scales = log_scales.exp().permute(0, 2, 3, 1)[:, None].expand_as(locations)
    expected = -MixtureSameFamily(weights, Laplace(locations, scales)).log_prob(target)
    torch.testing.assert_close(laplace_mixture_nll(flow, target, logits, log_scales), expected)


def test_correlation__equals_sums_over_channels():
    first, second = torch.randn(2, 1, 6, 9, 11)
    cells = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")[::-1])[None]
    samples = correlate(first, second, levels=2, radius=1)(cells)
    assert samples.shape == (1, 18, 9, 11)
    padded = F.pad(second, (1, 1, 1, 1))
    for column in range(3):
        for row in range(3):
            shifted = padded[..., row : row + 9, column : column + 11]
            expected = (first * shifted).sum(1) / math.sqrt(6)
            torch.testing.assert_close(samples[:, 3 * column + row], expected, atol=1e-5, rtol=1e-5)
    # Scale 2: the match of cell (4, 6) lies on cell (2, 3), which averages 2 x 2 cells.
    expected = (first[0, :, 4, 6] * second[0, :, 4:6, 6:8].mean((1, 2))).sum() / math.sqrt(6)
    torch.testing.assert_close(samples[0, 9 + 4, 4, 6], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "millions"), [("s", 8.9), ("m", 19.7), ("l", 19.7)])
def test_sizes__have_the_parameters_of_the_paper(size, millions):
    with torch.device("meta"):
        model = SeaRaft(**SIZES[size])
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("shape", [(64, 72), (37, 101), (5, 3), (1, 1)])
def test_forward__any_size_keeps_shape_and_type(model, shape):
    inputs, _ = make_batch(*shape)
    for mode in (True, False):
        outputs = model.train(mode)(**inputs)
        assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {
            "flow": (2, 2, *shape),
            "mixture": (2, 4, *shape),
        }
        assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in outputs.values())


def test_forward__iterations_are_the_steps_of_training(model):
    model.eval()
    inputs, targets = make_batch()
    with torch.no_grad():
        steps = [model(**inputs, iterations=count) for count in range(3)]
        losses = [model.loss(step, targets)["flow"] for step in steps]
        total = model.compute_losses(inputs, targets)["flow"]
    expected = sum(model.gamma ** (2 - number) * loss for number, loss in enumerate(losses))
    torch.testing.assert_close(total, expected)
    assert torch.equal(model(**inputs)["flow"], steps[-1]["flow"])


def test_compute_losses__reach_every_parameter(model):
    model.train()
    inputs, targets = make_batch()
    model.zero_grad()
    model.compute_losses(inputs, targets)["flow"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if name.endswith("conv1.weight"))


def test_compute_losses__without_valid_pixels_are_zero(model):
    inputs, targets = make_batch()
    targets = {"flow": torch.full_like(targets["flow"], math.nan), "valid": torch.zeros_like(targets["valid"])}
    model.train().zero_grad()
    loss = model.compute_losses(inputs, targets)["flow"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_loss__ignores_invalid_and_very_long_flow(model):
    _, targets = make_batch()
    outputs = {"flow": torch.zeros(2, 2, 64, 72), "mixture": torch.zeros(2, 4, 64, 72)}
    targets["flow"][:, :, :8] = math.nan
    targets["valid"][:, :8] = False
    targets["flow"][:, :, 8:16] = 1e4
    kept = targets["valid"].clone()
    kept[:, 8:16] = False
    # Both components have scale 1: the mixture is one Laplace distribution.
    expected = (targets["flow"].abs() + math.log(2)).transpose(0, 1)[:, kept].mean()
    torch.testing.assert_close(model.loss(outputs, targets)["flow"], expected)


def test_postprocess__uncertainty_is_the_mean_of_the_scales(model):
    mixture = torch.zeros(1, 4, 1, 3)
    mixture[0, :, 0, 0] = torch.tensor([0.0, 0.0, math.log(3.0), 0.0])  # half 3 px, half 1 px
    mixture[0, :, 0, 1] = torch.tensor([50.0, 0.0, math.log(7.0), -4.0])  # 7 px
    mixture[0, :, 0, 2] = torch.tensor([0.0, 50.0, math.log(7.0), -4.0])  # narrow: its scale is fixed at 1 px
    result = model.postprocess({"flow": torch.zeros(1, 2, 1, 3), "mixture": mixture})
    torch.testing.assert_close(result["uncertainty"], torch.tensor([[[2.0, 7.0, 1.0]]]))


def test_autocast__outputs_stay_float32(model):
    inputs, _ = make_batch()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        outputs = model.eval()(**inputs)
    assert all(tensor.dtype == torch.float32 for tensor in outputs.values())


def test_half_precision__outputs_stay_float32(model):
    inputs, _ = make_batch()
    with torch.no_grad():
        expected = model.eval()(**inputs)["flow"]
        low = {name: image.bfloat16() for name, image in inputs.items()}
        outputs = copy.deepcopy(model).bfloat16()(**low)
    assert outputs["flow"].dtype == torch.float32
    assert (outputs["flow"] - expected).norm() < 0.1 * expected.norm()


def test_load_resnet__doubles_the_stem_for_two_images():
    import timm

    weights = timm.create_model("resnet18").state_dict()
    encoder = TruncatedResNet(6, 16, (2, 2, 2))
    encoder.load_resnet(weights)
    assert torch.equal(encoder.conv1.weight, torch.cat([weights["conv1.weight"]] * 2, 1))
    assert torch.equal(encoder.layer3[1].conv2.weight, weights["layer3.1.conv2.weight"])
    assert torch.equal(encoder.layer2[0].downsample[1].running_var, weights["layer2.0.downsample.1.running_var"])


def test_unknown_encoder__is_an_error():
    with pytest.raises(ValueError, match="resnet18"):
        SeaRaft("resnet50")


@pytest.mark.slow
def test_export__holds_for_other_batches_and_sizes(model):
    model.eval()
    inputs, _ = make_batch(64, 96)
    batch = torch.export.Dim("batch", min=1, max=8)
    height, width = (8 * torch.export.Dim(name, min=8, max=64) for name in ("rows", "columns"))
    shape = {0: batch, 2: height, 3: width}
    program = torch.export.export(model, (), inputs, dynamic_shapes={"first": shape, "second": shape})
    others, _ = make_batch(80, 64, batch=3)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**others)["flow"], model(**others)["flow"], atol=1e-4, rtol=1e-4)
