"""Losses: by hand, what they forgive, and that unknown pixels do not exist for them."""

from __future__ import annotations

import math

import pytest
import torch

from densevision.tasks.depth.losses import (
    DepthCriterion,
    berhu_loss,
    silog_loss,
    smoothness_loss,
    ssi_gradient_loss,
    ssi_loss,
)

WEIGHTS = {"l1": 1.0, "log_l1": 1.0, "berhu": 1.0, "ssi": 1.0, "ssi_gradient": 1.0}
CRITERION = DepthCriterion(**WEIGHTS, smoothness=1.0)


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    depth, truth = (torch.rand(2, 1, 9, 11, generator=random) + 0.5 for _ in range(2))
    return depth, truth, torch.rand(2, 1, 9, 11, generator=random) < 0.7


def test_silog__by_hand_and_forgiving_a_factor() -> None:
    depth, truth = torch.tensor([[[[1.0, math.e]]]]), torch.ones(1, 1, 1, 2)
    known = truth > 0
    assert silog_loss(depth, truth, known, 0.85) == pytest.approx(math.sqrt(0.5 - 0.85 * 0.25), rel=1e-5)
    depth, truth, known = made()
    assert silog_loss(7 * depth, truth, known, 1.0) == pytest.approx(
        float(silog_loss(depth, truth, known, 1.0)), rel=1e-4
    )


def test_berhu__absolute_then_quadratic() -> None:
    error = torch.tensor([[[[0.1, 1.0]]]])
    knee = 0.2
    wanted = (0.1 + (1 + knee**2) / (2 * knee)) / 2
    assert berhu_loss(error, torch.zeros_like(error), torch.ones_like(error) > 0) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", [ssi_loss, ssi_gradient_loss])
def test_invariant__forgives_factor_and_offset(loss) -> None:
    depth, truth, known = made()
    assert loss(3 * truth + 5, truth, known) == pytest.approx(0, abs=1e-4)
    assert loss(3 * depth + 5, truth, known) == pytest.approx(float(loss(depth, truth, known)), rel=1e-3)
    assert loss(depth, truth, known) > 0.1


def test_unknown_pixels__have_no_influence() -> None:
    depth, truth, known = made()
    depth.requires_grad_()
    plain = DepthCriterion(**WEIGHTS)
    image = torch.zeros(2, 3, 9, 11)
    losses = plain(depth, {"depth": truth, "valid": known}, image)
    sum(losses.values()).backward()
    assert (depth.grad[~known] == 0).all() and (depth.grad[known] != 0).any()
    spoilt = {"depth": torch.where(known, truth, 77.0), "valid": known}
    again = plain(depth.detach(), spoilt, image)
    assert {name: float(value) for name, value in again.items()} == {n: float(v.detach()) for n, v in losses.items()}


@pytest.mark.parametrize("size", [(9, 11), (1, 1)])
def test_nothing_known__finite_with_gradients(size: tuple[int, int]) -> None:
    depth = torch.ones(2, 1, *size, requires_grad=True)
    targets = {"depth": torch.ones(2, 1, *size), "valid": torch.zeros(2, 1, *size, dtype=torch.bool)}
    total = sum(CRITERION(depth, targets, torch.zeros(2, 3, *size)).values())
    total.backward()
    assert total.isfinite() and depth.grad.isfinite().all()


def test_one_image_unknown__the_other_teaches() -> None:
    depth, truth, known = made()
    known[0] = False
    losses = CRITERION(depth, {"depth": truth, "valid": known}, torch.zeros(2, 3, 9, 11))
    assert all(value.isfinite() for value in losses.values())


def test_smoothness__is_waived_at_edges() -> None:
    depth = torch.ones(1, 1, 4, 8)
    depth[..., 4:] = 2
    flat, edge = torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 4, 8)
    edge[..., 4:] = 1
    assert smoothness_loss(depth, edge) == pytest.approx(float(smoothness_loss(depth, flat)) / math.e, rel=1e-5)
    assert smoothness_loss(5 * depth, flat) == pytest.approx(float(smoothness_loss(depth, flat)), rel=1e-5)
