"""Parameter groups and learning rates."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from densevision.errors import UsageError
from densevision.run_config import TrainConfig
from densevision.training.optimizer import Schedule, build_optimizer


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def test_groups__norms_and_biases_do_not_decay() -> None:
    optimizer = build_optimizer(Model(), TrainConfig(lr=1e-2, backbone_lr_scale=0.1, weight_decay=0.05))
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert {name: len(group["params"]) for name, group in groups.items()} == {
        "encoder/decayed": 1, "encoder/plain": 3, "head/decayed": 1, "head/plain": 1,
    }  # fmt: skip
    assert groups["encoder/decayed"]["weight_decay"] == 0.05 and groups["encoder/plain"]["weight_decay"] == 0
    assert groups["encoder/plain"]["lr"] == pytest.approx(1e-3) and groups["head/plain"]["lr"] == pytest.approx(1e-2)


def test_groups__frozen_weights_are_left_out() -> None:
    model = Model()
    model.encoder.requires_grad_(False)
    assert sum(len(group["params"]) for group in build_optimizer(model, TrainConfig()).param_groups) == 2


def test_optimizer__betas_and_momentum() -> None:
    adam = build_optimizer(Model(), TrainConfig(optimizer="adam", betas=(0.5, 0.9)))
    sgd = build_optimizer(Model(), TrainConfig(optimizer="sgd", momentum=0.8))
    assert adam.param_groups[0]["betas"] == (0.5, 0.9)
    assert sgd.param_groups[0]["momentum"] == 0.8 and sgd.param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.5},
        {"optimizer": "sgd", "betas": [0.5, 0.9]},
        {"plateau_factor": 0.5},
        {"plateau_patience": 3},
        {"schedule": "linear", "min_lr_ratio": 0.5},
        {"schedule": "plateau", "plateau_factor": 10.0},
        {"strategy": "fsdp", "ema_decay": 0.9},
    ],
)
def test_train_config__options_without_effect_are_errors(options: dict) -> None:
    with pytest.raises(UsageError):
        TrainConfig.resolve(None, options)


def test_cosine__equals_torch_after_warmup() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup_epochs=0.0, min_lr_ratio=0.0, lr=1.0), 10, True)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for step in range(100):
        assert schedule.compute_shape(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        reference.step()


def test_warmup__rises_to_the_peak() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup_epochs=2.0, schedule="constant"), 10, True)
    rates = [schedule.compute_shape(step) for step in range(25)]
    assert rates[0] > 0 and all(a < b for a, b in pairwise(rates[:20])) and rates[20:] == [1.0] * 5


def test_linear__is_constant_then_decays() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup_epochs=0.0, schedule="linear"), 10, True)
    assert schedule.compute_shape(0) == schedule.compute_shape(49) == 1.0
    assert schedule.compute_shape(75) == pytest.approx(0.5) and schedule.compute_shape(99) == pytest.approx(0.02)


def test_onecycle__peaks_at_the_end_of_warmup() -> None:
    schedule = Schedule(TrainConfig(epochs=10, warmup_epochs=1.0, schedule="onecycle"), 10, True)
    rates = [schedule.compute_shape(step) for step in range(100)]
    assert max(rates) == 1.0 and rates.index(1.0) == 9 and rates[-1] < 0.02


@pytest.mark.parametrize("maximize", [True, False])
def test_plateau__equals_torch(maximize: bool) -> None:
    """torch counts a bad epoch more: its patience of n is ours of n + 1."""
    config = TrainConfig(schedule="plateau", warmup_epochs=0.0, plateau_patience=3, plateau_factor=0.2)
    schedule, sign = Schedule(config, 10, maximize), 1 if maximize else -1
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max" if maximize else "min", factor=0.2, patience=2, threshold=0.0, eps=0.0
    )
    factors = []
    for value in (1.0, 2.0, 2.0, 1.5, 1.9, 2.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        schedule.update_plateau(sign * value)
        reference.step(sign * value)
        assert schedule.factor == pytest.approx(optimizer.param_groups[0]["lr"])
        factors.append(schedule.factor)
    assert len(set(factors)) == 4
    restored = Schedule(config, 10, maximize)
    restored.load_state_dict(schedule.state_dict())
    assert restored.state_dict() == schedule.state_dict()
