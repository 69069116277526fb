"""Losses against their formulas in NumPy; unknown pixels are ignored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.datasets.targets import stack_image_targets
from densevision.errors import UsageError
from densevision.nn.perceptual import PerceptualLoss
from densevision.results import Image
from densevision.run_config import BackboneConfig
from densevision.tasks.superres.losses import PixelCriterion

ALL = {"l1": 2.0, "charbonnier": 0.5, "mse": 3.0, "frequency": 0.25}


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor], np.ndarray]:
    """Predictions, targets of which the last is smaller, and their difference where it is known."""
    rng = np.random.default_rng(0)
    target_records = [rng.random(size, np.float32) for size in ((8, 6, 3), (5, 6, 3))]
    prediction = rng.random((2, 3, 8, 6)).astype(np.float32)
    difference = np.zeros((2, 3, 8, 6))
    for row, truth in enumerate(target_records):
        height, width = truth.shape[:2]
        difference[row, :, :height, :width] = prediction[row, :, :height, :width] - truth.transpose(2, 0, 1)
    return (
        torch.from_numpy(prediction),
        stack_image_targets([Image.from_source(truth) for truth in target_records], 3),
        difference,
    )


def test_pixel_criterion__equals_the_formulas():
    prediction, targets, difference = batch()
    count = 3 * (8 * 6 + 5 * 6)
    known = np.zeros((2, 3, 8, 6), bool)
    known[0], known[1, :, :5] = True, True
    losses = PixelCriterion(**ALL)(prediction, targets)
    expected = {
        "l1": 2.0 * np.abs(difference).sum() / count,
        "charbonnier": 0.5 * np.sqrt(difference[known] ** 2 + 1e-6).sum() / count,
        "mse": 3.0 * (difference**2).sum() / count,
        "frequency": 0.25 * np.abs(np.fft.rfft2(difference, norm="ortho")).mean(),
    }
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-5)


def test_pixel_criterion__weight_zero_is_left_out():
    prediction, targets, _ = batch()
    assert list(PixelCriterion()(prediction, targets)) == ["l1"]


def test_pixel_criterion__unknown_targets_give_zero_with_a_gradient():
    prediction = torch.rand(2, 3, 4, 4, requires_grad=True)
    targets = stack_image_targets([None, Image.from_source(np.full((4, 4, 3), np.nan, np.float32))], 3)
    total = sum(PixelCriterion(**ALL)(prediction, targets).values())
    total.backward()
    assert float(total.detach()) == 0 and prediction.grad.isfinite().all()


@pytest.fixture(scope="module")
def perceptual() -> PerceptualLoss:
    torch.manual_seed(0)
    return PerceptualLoss(BackboneConfig(name="mobilenetv3_small_050"), (2, 4)).train()


def test_perceptual__averages_the_levels(perceptual: PerceptualLoss):
    one, other = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = zip(perceptual.backbone(one), perceptual.backbone(other), perceptual.backbone.strides)
        expected = np.mean([float((a - b).abs().mean()) for a, b, stride in levels if stride in (2, 4)])
    assert float(perceptual(one, other)) == pytest.approx(expected, rel=1e-5)
    assert float(perceptual(one, one)) == 0


def test_perceptual__is_frozen(perceptual: PerceptualLoss):
    prediction = torch.rand(1, 3, 32, 32, requires_grad=True)
    target = torch.rand(1, 3, 32, 32, requires_grad=True)
    before = {name: tensor.clone() for name, tensor in perceptual.state_dict().items()}
    perceptual(prediction, target).backward()
    assert prediction.grad.abs().max() > 0 and target.grad is None
    assert all(parameter.grad is None for parameter in perceptual.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in perceptual.state_dict().items())


def test_perceptual__missing_level():
    with pytest.raises(UsageError, match=r"loss\.perceptual\.strides: no such level.*has the strides"):
        PerceptualLoss(BackboneConfig(name="mobilenetv3_small_050"), (3,))
