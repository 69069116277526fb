"""Checks of a task's config, model and losses."""

from __future__ import annotations

import functools

import torch

from densevision.inference.seed import seed_everything
from densevision.nn.model import Tensors
from densevision.run_config import PredictOptions
from densevision.testing.task_bench import TaskBench

__all__ = [
    "check_bfloat16",
    "check_config_round_trip",
    "check_finite_losses",
    "check_gradients",
    "check_help",
    "check_overfit",
    "check_same_seed",
    "check_same_types",
]


def check_config_round_trip(bench: TaskBench) -> None:
    """YAML preserves the config."""
    import yaml

    restored = type(bench.config).from_dict(yaml.safe_load(bench.config.to_yaml()))
    assert restored == bench.config, "config -> YAML -> config changes it"


def check_help(bench: TaskBench) -> None:
    """Every option has a help text."""
    names = [
        option.name for option in type(bench.config).iterate_options() if not option.help and option.name != "task"
    ]
    assert not names, f"options without help: {names}"


def check_same_types(bench: TaskBench) -> None:
    """Outputs have the same keys, types and ranks in training and evaluation."""
    model, batch = bench.build_model(), bench.make_batch()
    with torch.no_grad():
        training, evaluation = model.train()(**batch.inputs), model.eval()(**batch.inputs)
    first, second = (
        {name: (value.dtype, value.ndim) for name, value in outputs.items()} for outputs in (training, evaluation)
    )
    assert first == second, f"{first} in training, {second} in evaluation"


def check_finite_losses(bench: TaskBench) -> None:
    """The losses of every optimizer are finite scalars."""
    model, modules, batch = bench.build_model().train(), bench.task.build_training_modules(), bench.make_batch()
    for optimizer_name in bench.task.optimizer_names:
        for name, value in bench.compute_losses(model, batch, modules, optimizer_name).items():
            assert value.ndim == 0 and torch.isfinite(value), f"{optimizer_name}/{name} is {value}"


def check_gradients(bench: TaskBench) -> None:
    """Every trainable parameter gets a finite gradient."""
    model, modules, batch = bench.build_model().train(), bench.task.build_training_modules(), bench.make_batch(4)
    for optimizer_name in bench.task.optimizer_names:
        module = model if optimizer_name == "net" else modules
        assert module is not None, f"optimizer {optimizer_name} has no module"
        module.zero_grad(set_to_none=True)
        _sum(bench.compute_losses(model, batch, modules, optimizer_name)).backward()
        parameters = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        missing = [name for name, weight in parameters.items() if weight.grad is None]
        assert not missing, f"no gradient: {missing[:5]} (and {max(0, len(missing) - 5)} more)"
        broken = [
            name for name, weight in parameters.items() if weight.grad is not None and not weight.grad.isfinite().all()
        ]
        assert not broken, f"gradient not finite: {broken[:5]}"


def check_overfit(bench: TaskBench) -> None:
    """A few dozen steps on one batch reduce its loss."""
    model, modules, batch = bench.build_model().train(), bench.task.build_training_modules(), bench.make_batch(2)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        total = _sum(bench.compute_losses(model, batch, modules))
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert min(history[-5:]) < 0.6 * history[0], f"loss went from {history[0]:.3f} to {history[-1]:.3f}"


def check_same_seed(bench: TaskBench) -> None:
    """The same seed gives the same weights and the same losses."""
    runs = []
    for _ in range(2):
        model, batch = bench.build_model().train(), bench.make_batch()
        seed_everything(1)
        losses = bench.compute_losses(model, batch, bench.task.build_training_modules())
        runs.append((model.state_dict(), losses))
    (weights, losses), (other_weights, other_losses) = runs
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights), "weights differ"
    assert all(torch.equal(losses[name], other_losses[name]) for name in losses), f"{losses} and {other_losses}"


def check_bfloat16(bench: TaskBench) -> None:
    """Under bfloat16 the losses are finite, and prediction works."""
    model, modules, batch = bench.build_model().train(), bench.task.build_training_modules(), bench.make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name, value in bench.compute_losses(model, batch, modules).items():
            assert torch.isfinite(value), f"{name} is {value}"
    bench.build_predictor().predict_batch([bench.samples[0]], PredictOptions(precision="bfloat16"))


def _sum(losses: Tensors) -> torch.Tensor:
    return functools.reduce(torch.add, losses.values())
