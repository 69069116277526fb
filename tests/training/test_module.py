"""The training step, on a network of one weight, where every number can be worked out by hand."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.errors import DenseVisionError, UsageError
from densevision.run_config import TrainConfig
from densevision.sample import Batch
from densevision.tasks import load_config, load_task
from densevision.training.batch_size import find_batch
from densevision.training.loggers import PACKAGES
from densevision.training.module import Module, averaged


class Line:
    """A task that fits y = 2 x by one weight, which starts at 0."""

    name, optimizer_names, monitor, alone = "line", ("net",), ("loss", "min"), 0

    def net(self) -> nn.Module:
        net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(net.weight)
        return net

    def training_modules(self) -> None:
        return None

    def losses(self, net: nn.Module, batch: Batch, training_modules: None, optimizer_name: str) -> dict[str, Tensor]:
        x = batch.inputs["x"]
        return {"square": ((net(x) - 2 * x) ** 2).mean(), "nothing": x.sum() * 0}


def fitted(inputs: list[list[float]], plugins: Any = None, **settings: Any) -> Module:
    """The module after training on these batches."""
    from lightning.pytorch import Trainer

    batches = [
        Batch({"x": torch.tensor(xs)[:, None]}, [], {}, [None] * len(xs), [f"{n}:{i}" for i in range(len(xs))])
        for n, xs in enumerate(inputs)
    ]
    settings = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0, **settings}
    config = TrainConfig.checked({"lr": 0.1, "weight_decay": 0.0, "epochs": 1, **settings})
    module = Module(Line(), config, len(batches))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", max_epochs=config.epochs, plugins=plugins, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module


def weight(module: nn.Module) -> float:
    return float(module.weight.detach())


def test_step__is_gradient_descent() -> None:
    # d/dw mean((w - 2)^2 x^2) at w = 0 is -4 mean(x^2)
    assert weight(fitted([[1.0, 2.0]]).net) == pytest.approx(0.1 * 4 * 2.5)


def test_accumulate__equals_one_larger_batch() -> None:
    whole = fitted([[1.0, 2.0, 3.0, 0.5], [1.5, 1.0, 0.2, 0.1]])
    parts = fitted([[1.0, 2.0], [3.0, 0.5], [1.5, 1.0], [0.2, 0.1]], accumulate_grad_batches=2)
    assert weight(parts.net) == pytest.approx(weight(whole.net)) and parts.updates == whole.updates == 2


def test_accumulate__what_is_left_at_the_end_of_an_epoch_is_a_step_like_any_other() -> None:
    whole = fitted([[1.0, 2.0, 3.0, 0.5], [1.5, 1.0]])
    parts = fitted([[1.0, 2.0], [3.0, 0.5], [1.5, 1.0]], accumulate_grad_batches=2)
    assert weight(parts.net) == pytest.approx(weight(whole.net))
    assert parts.updates == parts.schedule.total == 2, "the rate falls over the updates that there are"


def test_clip__bounds_the_step() -> None:
    assert weight(fitted([[100.0]], clip=1.5).net) == pytest.approx(0.1 * 1.5)


def test_clip__bounds_the_step_of_half_precision_too() -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert weight(fitted([[1.0]], half, clip=0.5).net) == pytest.approx(0.1 * 0.5, rel=1e-3)


def test_average__follows_its_recursion() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    average, expected = averaged(net, 0.5), None
    for count, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)):
        nn.init.constant_(net.weight, value)
        average.update_parameters(net)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert weight(average.module) == pytest.approx(expected, rel=1e-6)


def test_average__is_what_is_validated_and_saved() -> None:
    module = fitted([[1.0], [1.0], [1.0]], ema=0.9)
    assert module.best_net is module.average.module
    assert 0 < weight(module.best_net) < weight(module.net)
    plain = fitted([[1.0]])
    assert plain.best_net is plain.net


def test_losses__that_are_not_finite_stop_and_are_named() -> None:
    with pytest.raises(DenseVisionError, match=r"not finite in epoch 0, images 1:0, 1:1") as failure:
        fitted([[1.0], [1.0, float("inf")], [1.0]])
    assert failure.value.field == "square, nothing" and failure.value.exit_code == 1


@pytest.mark.parametrize(("lr", "said"), [(1.01, "update / weight norm"), (0.02, None)])
def test_health__steps_as_large_as_the_weights_are_named(lr: float, said: str | None, caplog) -> None:
    with caplog.at_level(logging.WARNING, "densevision"):
        module = fitted([[1.0]] * 40, lr=lr, epochs=2)
    assert (said in caplog.text) if said else not caplog.text
    assert set(module.epoch_summary()) == {
        "train/loss", "train/square", "train/nothing", "ratio/head/decayed", "lr"
    }  # fmt: skip


def test_summary__is_the_mean_of_the_epoch() -> None:
    summary = fitted([[1.0], [2.0]]).epoch_summary()
    first = 4.0  # (0 - 2)^2
    second = (0.1 * 4 - 2) ** 2 * 4
    assert summary["train/square"] == pytest.approx((first + second) / 2)
    assert summary["ratio/head/decayed"] == pytest.approx(0.1 * 2 * 1.6 * 4 / 0.4)


@pytest.mark.parametrize(("free", "batch"), [(2**50, 16), (0, 1)])
def test_batch__auto_takes_the_largest_power_of_two_that_fits(free: int, batch: int, tiny, monkeypatch) -> None:
    monkeypatch.setattr("densevision.training.batch_size.free_bytes", lambda device: free)
    monkeypatch.setattr("densevision.training.batch_size.peak_megabytes", _rising())
    task = load_task("detection")
    task = task(task.infer_from_data(load_config("detection").resolve(None, {**tiny, "data.path": "scenes:20:0"})))
    assert find_batch(task, task.dataset("train"), torch.device("cpu")) == batch


def _rising() -> Any:
    readings = iter(range(100))
    return lambda device: next(readings)


@pytest.mark.parametrize("name", PACKAGES)
def test_loggers__without_their_package_are_refused_before_the_run(name: str, tiny, tmp_path, monkeypatch) -> None:
    from densevision import train

    monkeypatch.setattr("densevision.training.loggers.find_spec", lambda package: None)
    with pytest.raises(UsageError, match=f"{name}.*pip install {name}"):
        train("detection", "scenes:4:0", set={**tiny, "train.loggers": (name,)}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
