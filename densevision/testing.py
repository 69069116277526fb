"""What every task must keep. `check_task` runs all of it; outsiders may use it on their own tasks.

The checks run on scenes, on the CPU, in seconds: the task's config should therefore be a small one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchModel, load_torch
from densevision.inference.seed import seed_everything
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import Batch, Sample
from densevision.tasks.base import DenseModel, Task
from densevision.training.train import card_of

ODD = ((97, 131), (64, 33), (1, 1))
"""Image sizes that no stride divides."""


def check_task(task_class: type[Task], config: TaskConfig, skip: Sequence[str] = ()) -> list[str]:
    """Runs every check; raises AssertionError with the check's name at the first that fails.

    Args:
        task_class: The task.
        config: A small config with `data.path` set to scenes.
        skip: Names of checks to leave out, e.g. ("overfit",).

    Returns:
        The names of the checks that ran.
    """
    ran = []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        if name in skip:
            continue
        seed_everything(config.train.seed)
        try:
            check(_Bench(task_class, config))
        except AssertionError as failure:
            raise AssertionError(f"{task_class.name}: {name}: {failure}") from failure
        ran.append(name)
    return ran


class _Bench:
    """A task with its network and a batch, made when asked for."""

    def __init__(self, task_class: type[Task], config: TaskConfig):
        self.task_class = task_class
        self.config = task_class.infer_from_data(config)
        self.task = task_class(self.config)
        self.samples = self.task.dataset("train")

    def batch(self, count: int = 2) -> Batch:
        picked = [
            self.task.augment(self.samples, index % len(self.samples), np.random.default_rng(index), 0)
            for index in range(count)
        ]
        return Collate(self.task)(picked)

    def net(self) -> DenseModel:
        seed_everything(self.config.train.seed)
        return self.task.net()

    def training_modules(self) -> torch.nn.Module | None:
        return self.task.training_modules()

    def model(self) -> TorchModel:
        return TorchModel(self.task, self.net().eval(), card_of(self.config, len(self.samples)))

    def losses(
        self, net: DenseModel, batch: Batch, optimizer_name: str, training_modules: torch.nn.Module | None
    ) -> dict[str, torch.Tensor]:
        return self.task.losses(net, batch, training_modules, optimizer_name)


def check_config_round_trip(bench: _Bench) -> None:
    """The config survives YAML, and holds no torch."""
    import yaml

    again = type(bench.config).checked(yaml.safe_load(bench.config.to_yaml()))
    assert again == bench.config, "config -> YAML -> config changes it"


def check_help(bench: _Bench) -> None:
    """Every option has a help text."""
    silent = [option.name for option in type(bench.config).leaves() if not option.help and option.name != "task"]
    assert not silent, f"options without help: {silent}"


def check_same_types(bench: _Bench) -> None:
    """Training and evaluation give the same keys, types and ranks."""
    net, batch = bench.net(), bench.batch()
    with torch.no_grad():
        training, evaluating = net.train()(**batch.inputs), net.eval()(**batch.inputs)
    kinds = [{key: (value.dtype, value.ndim) for key, value in out.items()} for out in (training, evaluating)]
    assert kinds[0] == kinds[1], f"{kinds[0]} in training, {kinds[1]} in evaluation"


def check_finite_losses(bench: _Bench) -> None:
    """Losses of every phase are finite scalars."""
    net, training_modules, batch = bench.net().train(), bench.training_modules(), bench.batch()
    for optimizer_name in bench.task.optimizer_names:
        for name, value in bench.losses(net, batch, optimizer_name, training_modules).items():
            assert value.ndim == 0 and torch.isfinite(value), f"{optimizer_name}/{name} is {value}"


def check_gradients(bench: _Bench) -> None:
    """Every parameter that is trained gets a finite gradient."""
    net, training_modules, batch = bench.net().train(), bench.training_modules(), bench.batch(4)
    for optimizer_name in bench.task.optimizer_names:
        module = net if optimizer_name == "net" else training_modules
        assert module is not None, f"phase {optimizer_name} has no module"
        module.zero_grad(set_to_none=True)
        sum(bench.losses(net, batch, optimizer_name, training_modules).values()).backward()
        wanted = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        without = [name for name, weight in wanted.items() if weight.grad is None]
        broken = [
            name for name, weight in wanted.items() if weight.grad is not None and not weight.grad.isfinite().all()
        ]
        assert not without, f"no gradient: {without[:5]} (and {max(0, len(without) - 5)} more)"
        assert not broken, f"gradient not finite: {broken[:5]}"


def check_odd_sizes(bench: _Bench) -> None:
    """Images of any size are answered in their own size."""
    model = bench.model()
    for size in ODD:
        sample = _noise(bench, size)
        (result,) = model.infer([sample], PredictOptions(precision="float32"))
        assert tuple(result.size) == bench.task.output_size(size), f"{size} is answered as {result.size}"
        assert isinstance(result, bench.task_class.Result), f"answer is {type(result).__name__}"


def check_drawing(bench: _Bench) -> None:
    """Truth and answers can be drawn and written as plain data."""
    import json

    model, sample = bench.model(), bench.task.dataset("val")[0]
    (result,) = model.infer([sample], PredictOptions(precision="float32"))
    image = next(iter(sample.images.values()))
    for record in (result, sample.truth):
        drawn = bench.task.draw(image, record)
        assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3, (
            f"drawn: {drawn.dtype} {drawn.shape}"
        )
        json.dumps(record.to_dict(), allow_nan=False)


def check_decode_encode(bench: _Bench) -> None:
    """decode(encode(truth)) is truth: judged by the metric, it is perfect."""
    metric = bench.task.metric()
    for position in range(min(6, len(bench.samples))):
        batch = Collate(bench.task)([bench.samples[position]])
        (truth,) = batch.ground_truths
        (view,) = batch.views
        same = type(view)(view.size, view.size)
        (again,) = bench.task.decode(bench.task.encode([truth]), [same], bench.task.evaluation_options())
        metric.update(again, truth, position)
    _assert_perfect(bench, metric.compute(), 1e-3)


def check_perfect_metric(bench: _Bench) -> None:
    """metric(truth, truth) is perfect, in whatever order and shards."""
    metrics = [bench.task.metric() for _ in range(2)]
    for position in range(min(6, len(bench.samples))):
        truth = bench.samples[position].truth
        metrics[position % 2].update(truth, truth, position)
    metrics[1].merge(metrics[0])
    _assert_perfect(bench, metrics[1].compute(), 1e-6)


def check_by_image(bench: _Bench) -> None:
    """The numbers follow from what the metric keeps of each image, whatever the answers."""
    metric, model = bench.task.metric(), bench.model()
    for position in range(min(4, len(bench.samples))):
        sample = bench.samples[position]
        (answer,) = model.infer([sample], bench.task.evaluation_options().changed(precision="float32"))
        metric.update(answer if position % 2 else sample.truth, sample.truth, position)
    images, wanted = metric.per_image(), metric.compute()
    again = images.numbers(np.ones((1, len(images.ids))))
    monitored = bench.task.monitor[0]
    assert monitored in again, f"by_image() lacks {monitored}"
    for name, values in again.items():
        same = np.isclose(values[0], wanted[name], rtol=1e-9, atol=1e-12, equal_nan=True)
        assert same, f"{name} is {wanted[name]}, of the images {values[0]}"
    assert all(len(values) == len(images.ids) for values in images.each().values())


def check_empty_truth(bench: _Bench) -> None:
    """A batch in which nothing is known or nothing is there trains and is judged."""
    empty = [bench.task.unlabeled(sample) for sample in (bench.samples[0], bench.samples[1])]
    batch = Collate(bench.task)(empty)
    net, training_modules = bench.net().train(), bench.training_modules()
    for optimizer_name in bench.task.optimizer_names:
        for name, value in bench.losses(net, batch, optimizer_name, training_modules).items():
            assert torch.isfinite(value), f"{optimizer_name}/{name} is {value} without truth"
    metric = bench.task.metric()
    metric.update(empty[0].truth, empty[0].truth, 0)
    metric.compute()


def check_overfit(bench: _Bench) -> None:
    """A few dozen steps on one batch lower its loss by half."""
    net, training_modules, batch = bench.net().train(), bench.training_modules(), bench.batch(2)
    optimizer = torch.optim.Adam([weight for weight in net.parameters() if weight.requires_grad], lr=1e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        total = sum(bench.losses(net, batch, "net", training_modules).values())
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert min(history[-5:]) < 0.6 * history[0], f"loss went from {history[0]:.3f} to {history[-1]:.3f}"


def check_same_seed(bench: _Bench) -> None:
    """Same seed, same weights and same losses."""
    runs = []
    for _ in range(2):
        net, batch = bench.net().train(), bench.batch()
        seed_everything(1)
        runs.append((net.state_dict(), bench.losses(net, batch, "net", bench.training_modules())))
    (weights, losses), (others, other_losses) = runs
    assert all(torch.equal(weights[name], others[name]) for name in weights), "weights differ"
    assert all(torch.equal(losses[name], other_losses[name]) for name in losses), f"{losses} and {other_losses}"


def check_weights_round_trip(bench: _Bench) -> None:
    """Saved and loaded weights answer alike, and know what they are."""
    model, sample = bench.model(), bench.task.dataset("val")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        model.save(path)
        again = load_torch(path, bench.task_class.name)
    options = PredictOptions(precision="float32")
    one, other = (each.infer([sample], options)[0].arrays() for each in (model, again))
    assert again.task.config == bench.config, "the card's config differs"
    assert all(np.array_equal(one[name], other[name], equal_nan=_floats(one[name])) for name in one), "answers differ"


def check_export(bench: _Bench) -> None:
    """torch.export gives the same outputs."""
    net, batch = bench.net().eval(), bench.batch(1)
    with torch.no_grad():
        program = torch.export.export(net, (), kwargs=batch.inputs)
        one, other = net(**batch.inputs), program.module()(**batch.inputs)
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-4), f"{name} differs"


def check_bfloat16(bench: _Bench) -> None:
    """Under bfloat16 the losses are finite and the answers have the same form."""
    net, training_modules, batch = bench.net().train(), bench.training_modules(), bench.batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name, value in bench.losses(net, batch, "net", training_modules).items():
            assert torch.isfinite(value), f"{name} is {value}"
    bench.model().infer([bench.samples[0]], PredictOptions(precision="bfloat16"))


CHECKS: tuple[Callable[[_Bench], None], ...] = (
    check_config_round_trip,
    check_help,
    check_same_types,
    check_finite_losses,
    check_gradients,
    check_odd_sizes,
    check_drawing,
    check_decode_encode,
    check_perfect_metric,
    check_by_image,
    check_empty_truth,
    check_overfit,
    check_same_seed,
    check_weights_round_trip,
    check_export,
    check_bfloat16,
)


def _noise(bench: _Bench, size: tuple[int, int]) -> Sample:
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (*size, spec.channels), np.uint8)
        for name, spec in bench.task.inputs.items()
        if spec.kind == "image"
    }
    return Sample(images)


def _assert_perfect(bench: _Bench, metrics: dict[str, float], tolerance: float) -> None:
    name, _ = bench.task.monitor
    value = metrics[name]
    best_possible_value = bench.task.best_possible_value
    assert abs(value - best_possible_value) <= tolerance or value == best_possible_value, (
        f"{name} is {value}, perfect is {best_possible_value}"
    )


def _floats(array: Any) -> bool:
    return np.issubdtype(array.dtype, np.floating)
