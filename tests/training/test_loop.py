"""The training step, on a model of one weight, where every number can be derived by hand."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from densevision.errors import DenseVisionError, UsageError
from densevision.run_config import TrainConfig
from densevision.sample import Batch
from densevision.tasks import load_config, load_task
from densevision.training.batch_size import find_batch_size
from densevision.training.ema import build_average
from densevision.training.loggers import PACKAGES
from densevision.training.loop import TrainingLoop
from densevision.training.progress import TrainingProgress


class Line:
    """A task that fits y = 2 x by one weight, which starts at 0."""

    optimizer_names, generator_warmup_epochs = ("net",), 0

    def build_model(self) -> nn.Module:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def build_training_modules(self) -> nn.Module | None:
        return None

    def compute_losses(
        self, model: nn.Module, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> dict[str, Tensor]:
        x = batch.inputs["x"]
        return {"square": ((model(x) - 2 * x) ** 2).mean(), "zero": x.sum() * 0}

    def backward(self, model: nn.Module, losses: dict[str, Tensor], batches: int, backward: Any, _: bool) -> dict:
        backward()
        return {}


class Rivals(Line):
    """Two optimizers: "net" pulls its weight to the other one's, which "rival" pulls to 1; the rival starts later."""

    optimizer_names, generator_warmup_epochs = ("net", "rival"), 1

    def build_training_modules(self) -> nn.Module:
        return self.build_model()

    def compute_losses(
        self, model: nn.Module, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> dict[str, Tensor]:
        x = batch.inputs["x"]
        if optimizer_name == "rival":
            assert training_modules is not None
            return {"rival": ((training_modules(x) - x) ** 2).mean()}
        target = 0 if training_modules is None else training_modules(x)
        return {"distance": ((model(x) - target - x) ** 2).mean()}


def train(
    inputs: list[list[float]], plugins: Any = None, task: Line | None = None, **settings: Any
) -> tuple[TrainingLoop, list[dict[str, float]]]:
    """Trains on these batches; returns the loop and the row of each epoch."""
    batches = [
        Batch({"x": torch.tensor(xs)[:, None]}, [], {}, [None] * len(xs), [f"{n}:{i}" for i in range(len(xs))])
        for n, xs in enumerate(inputs)
    ]
    defaults = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "warmup_epochs": 0.0}
    defaults |= {"grad_clip_norm": 0.0, "lr": 0.1, "weight_decay": 0.0, "epochs": 1}
    config = TrainConfig.from_dict({**defaults, **settings})
    task = task or Line()
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugins)
    fabric.launch()
    loop = TrainingLoop(fabric, task, task.build_model(), config, len(batches), False)
    rows: list[dict[str, float]] = []
    loop.run(batches, lambda row: bool(rows.append(row)), TrainingProgress(config.epochs, quiet=True))
    return loop, rows


def weight(module: nn.Module) -> float:
    return float(module.weight.detach())


def test_step__is_gradient_descent() -> None:
    # d/dw mean((w - 2)^2 x^2) at w = 0 is -4 mean(x^2)
    assert weight(train([[1.0, 2.0]])[0].model) == pytest.approx(0.1 * 4 * 2.5)


def test_accumulation__equals_a_larger_batch() -> None:
    large, _ = train([[1.0, 2.0, 3.0, 0.5], [1.5, 1.0, 0.2, 0.1]])
    small, _ = train([[1.0, 2.0], [3.0, 0.5], [1.5, 1.0], [0.2, 0.1]], accumulate_grad_batches=2)
    assert weight(small.model) == pytest.approx(weight(large.model))
    assert small.counters.steps == large.counters.steps == 2


def test_accumulation__incomplete_group_at_the_end_of_an_epoch_is_a_full_step() -> None:
    large, _ = train([[1.0, 2.0, 3.0, 0.5], [1.5, 1.0]])
    small, _ = train([[1.0, 2.0], [3.0, 0.5], [1.5, 1.0]], accumulate_grad_batches=2)
    assert weight(small.model) == pytest.approx(weight(large.model))
    assert small.counters.steps == small.schedule.total_steps == 2


def test_clipping__bounds_the_step() -> None:
    assert weight(train([[100.0]], grad_clip_norm=1.5)[0].model) == pytest.approx(0.1 * 1.5)


def test_clipping__follows_the_unscaling_of_half_precision() -> None:
    from lightning.fabric.plugins.precision import MixedPrecision

    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    loop, _ = train([[1.0]], half, grad_clip_norm=0.5)
    assert weight(loop.model) == pytest.approx(0.1 * 0.5, rel=1e-3)
    state = loop.get_state()["precision"]
    assert state["scale"] == 1024.0, "the scale is part of the checkpoint"


def test_optimizers__only_their_own_weights_change_and_later_ones_wait() -> None:
    loop, rows = train([[1.0]], task=Rivals(), epochs=2)
    # Epoch 1: w -> 0 + 0.2 (1 - 0). Epoch 2: w -> 0.2 + 0.2 (0 + 1 - 0.2), and the rival -> 0.2.
    assert weight(loop.model) == pytest.approx(0.36) and weight(loop.training_modules) == pytest.approx(0.2)
    assert "train/rival" not in rows[0] and "train/rival" in rows[1]
    assert loop.training_modules.weight.requires_grad and loop.model.weight.requires_grad


def test_average__follows_its_recursion() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average, expected = build_average(model, 0.5), None
    for count, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert weight(average.module) == pytest.approx(expected, rel=1e-6)


def test_average__is_evaluated() -> None:
    loop, _ = train([[1.0], [1.0], [1.0]], ema_decay=0.9)
    assert loop.evaluated_model is loop.average.module
    assert 0 < weight(loop.evaluated_model) < weight(loop.model)
    plain, _ = train([[1.0]])
    assert plain.evaluated_model is plain.model


def test_losses__that_are_not_finite_name_the_images() -> None:
    with pytest.raises(DenseVisionError, match=r"not finite in epoch 1, images 1:0, 1:1") as error:
        train([[1.0], [1.0, float("inf")], [1.0]])
    assert error.value.field == "square, zero" and error.value.exit_code == 1


@pytest.mark.parametrize(("lr", "is_warned"), [(1.01, True), (0.02, False)])
def test_update_ratio__large_steps_are_warned_about(lr: float, is_warned: bool, caplog) -> None:
    with caplog.at_level(logging.WARNING, "densevision"):
        loop, _ = train([[1.0]] * 40, lr=lr, epochs=2)
    assert bool(caplog.records) == is_warned
    assert set(loop.summarize_epoch()) == {"train/loss", "train/square", "train/zero", "ratio/head/decayed", "lr"}


def test_summary__is_the_mean_of_the_epoch() -> None:
    _, (row,) = train([[1.0], [2.0]])
    first = 4.0  # (0 - 2)^2
    second = (0.1 * 4 - 2) ** 2 * 4
    assert row["epoch"] == 1
    assert row["train/square"] == row["train/loss"] == pytest.approx((first + second) / 2)
    assert row["ratio/head/decayed"] == pytest.approx(0.1 * 2 * 1.6 * 4 / 0.4)


@pytest.mark.parametrize(("free", "batch"), [(2**50, 16), (0, 1)])
def test_find_batch_size__largest_power_of_two_that_fits(free: int, batch: int, tiny, monkeypatch) -> None:
    monkeypatch.setattr("densevision.training.batch_size.get_free_bytes", lambda device: free)
    monkeypatch.setattr("densevision.training.batch_size.measure_peak_megabytes", _make_rising_readings())
    task_class = load_task("detection")
    config = load_config("detection").resolve(None, {**tiny, "data.path": "scenes:20:0"})
    task = task_class(task_class.infer_from_data(config))
    assert find_batch_size(task, task.open_dataset("train"), torch.device("cpu")) == batch


def _make_rising_readings() -> Any:
    readings = iter(range(100))
    return lambda device: next(readings)


@pytest.mark.parametrize("name", PACKAGES)
def test_loggers__missing_package_is_refused_before_the_run(name: str, tiny, tmp_path, monkeypatch) -> None:
    from densevision import api

    monkeypatch.setattr("densevision.training.loggers.find_spec", lambda package: None)
    with pytest.raises(UsageError, match=f"{name}.*pip install {name}"):
        api.train("detection", "scenes:4:0", overrides={**tiny, "train.loggers": (name,)}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
