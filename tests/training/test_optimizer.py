"""Rates and groups."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from densevision.run_config import TrainConfig
from densevision.training.optimizer import Schedule, build_optimizer


class DenseModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def test_groups__norms_and_biases_do_not_decay() -> None:
    optimizer = build_optimizer(DenseModel(), TrainConfig(lr=1e-2, backbone_lr_scale=0.1, weight_decay=0.05))
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert {name: len(group["params"]) for name, group in groups.items()} == {
        "encoder/decayed": 1, "encoder/plain": 3, "head/decayed": 1, "head/plain": 1,
    }  # fmt: skip
    assert groups["encoder/decayed"]["weight_decay"] == 0.05 and groups["encoder/plain"]["weight_decay"] == 0
    assert groups["encoder/plain"]["lr"] == pytest.approx(1e-3) and groups["head/plain"]["lr"] == pytest.approx(1e-2)


def test_groups__frozen_weights_are_left_out() -> None:
    net = DenseModel()
    net.encoder.requires_grad_(False)
    optimizer = build_optimizer(net, TrainConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_cosine__equals_torch_after_warmup() -> None:
    train = TrainConfig(epochs=10, warmup=0.0, min_lr_ratio=0.0, lr=1.0)
    schedule = Schedule(train, 10, True)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for step in range(100):
        assert schedule.shape(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        reference.step()


def test_warmup__rises_to_the_peak() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup=2.0, schedule="constant"), 10, True)
    rates = [schedule.shape(step) for step in range(25)]
    assert rates[0] > 0 and all(a < b for a, b in pairwise(rates[:20])) and rates[20:] == [1.0] * 5


def test_linear__holds_then_falls() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup=0.0, schedule="linear"), 10, True)
    assert schedule.shape(0) == schedule.shape(49) == 1.0
    assert schedule.shape(75) == pytest.approx(0.5) and schedule.shape(99) == pytest.approx(0.02)


def test_onecycle__peak_at_warmup_then_zero() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup=1.0, schedule="onecycle"), 10, True)
    rates = [schedule.shape(step) for step in range(100)]
    assert max(rates) == 1.0 and rates.index(1.0) == 9 and rates[-1] < 0.02


@pytest.mark.parametrize("maximize", [True, False])
def test_plateau__divides_when_it_stops_improving(maximise: bool) -> None:
    schedule = Schedule(TrainConfig(schedule="plateau", warmup=0.0, patience=2, factor=10.0), 10, maximise)
    sign = 1 if maximise else -1
    for value in (1.0, 2.0, 2.0):
        schedule.validated(sign * value)
    assert schedule.factor == 1.0
    schedule.validated(sign * 1.5)
    assert schedule.factor == pytest.approx(0.1)
    restored = Schedule(TrainConfig(schedule="plateau", warmup=0.0), 10, maximise)
    restored.load_state_dict(schedule.state_dict())
    assert restored.state_dict() == schedule.state_dict()
