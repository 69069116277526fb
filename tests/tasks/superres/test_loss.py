"""Losses by their formulas in NumPy, and what is left out where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.datasets.image_targets import stack_images
from densevision.errors import UsageError
from densevision.nn.perceptual import Perceptual
from densevision.results import Image
from densevision.run_config import BackboneConfig
from densevision.tasks.superres.config import LossConfig
from densevision.tasks.superres.losses import pixel_losses

ALL = {"l1": 2.0, "charbonnier": 0.5, "mse": 3.0, "frequency": 0.25}


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor], np.ndarray]:
    """Answers, targets of which the last is smaller, and their difference where it is known."""
    rng = np.random.default_rng(0)
    ground_truths = [rng.random(size, np.float32) for size in ((8, 6, 3), (5, 6, 3))]
    answer = rng.random((2, 3, 8, 6)).astype(np.float32)
    difference = np.zeros((2, 3, 8, 6))
    for row, truth in enumerate(ground_truths):
        height, width = truth.shape[:2]
        difference[row, :, :height, :width] = answer[row, :, :height, :width] - truth.transpose(2, 0, 1)
    return torch.from_numpy(answer), stack_images([Image.of(truth) for truth in ground_truths], 3), difference


def test_pixel_losses__by_their_formulas():
    answer, targets, difference = batch()
    count = 3 * (8 * 6 + 5 * 6)
    known = np.zeros((2, 3, 8, 6), bool)
    known[0], known[1, :, :5] = True, True
    found = pixel_losses(answer, targets, LossConfig.checked(ALL))
    wanted = {
        "l1": 2.0 * np.abs(difference).sum() / count,
        "charbonnier": 0.5 * np.sqrt(difference[known] ** 2 + 1e-6).sum() / count,
        "mse": 3.0 * (difference**2).sum() / count,
        "frequency": 0.25 * np.abs(np.fft.rfft2(difference, norm="ortho")).mean(),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-5)


def test_pixel_losses__weight_zero_is_left_out():
    answer, targets, _ = batch()
    assert list(pixel_losses(answer, targets, LossConfig())) == ["l1"]


def test_pixel_losses__nothing_known_is_zero_with_a_gradient():
    answer = torch.rand(2, 3, 4, 4, requires_grad=True)
    targets = stack_images([None, Image.of(np.full((4, 4, 3), np.nan, np.float32))], 3)
    total = sum(pixel_losses(answer, targets, LossConfig.checked(ALL)).values())
    total.backward()
    assert float(total.detach()) == 0 and answer.grad.isfinite().all()


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    torch.manual_seed(0)
    return Perceptual(BackboneConfig(name="mobilenetv3_small_050"), (2, 4)).train()


def test_perceptual__is_the_mean_over_the_named_levels(perceptual: Perceptual):
    one, other = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = zip(perceptual.backbone(one), perceptual.backbone(other), perceptual.backbone.strides)
        wanted = np.mean([float((a - b).abs().mean()) for a, b, stride in levels if stride in (2, 4)])
    assert float(perceptual(one, other)) == pytest.approx(wanted, rel=1e-5)
    assert float(perceptual(one, one)) == 0


def test_perceptual__learns_nothing_itself(perceptual: Perceptual):
    answer = torch.rand(1, 3, 32, 32, requires_grad=True)
    target = torch.rand(1, 3, 32, 32, requires_grad=True)
    before = {name: tensor.clone() for name, tensor in perceptual.state_dict().items()}
    perceptual(answer, target).backward()
    assert answer.grad.abs().max() > 0 and target.grad is None
    assert all(parameter.grad is None for parameter in perceptual.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in perceptual.state_dict().items())


def test_perceptual__a_level_that_is_not_there():
    with pytest.raises(UsageError, match=r"loss\.perceptual\.strides: no such level.*has the strides"):
        Perceptual(BackboneConfig(name="mobilenetv3_small_050"), (3,))
