"""`check_task`: everything that a `Task` must do."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from densevision.datasets.checks.report import check_dataset
from densevision.errors import DenseVisionError
from densevision.exporting.export import export
from densevision.inference.loader import Collate
from densevision.inference.predict import predict
from densevision.inference.predictor import TorchPredictor, load_torch
from densevision.inference.progress import hide_progress
from densevision.inference.seed import seed_everything
from densevision.io.image import to_rgb, write_image
from densevision.metrics.metric_info import find_metric_info
from densevision.nn.model import Model, Tensors
from densevision.results import Result
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import Batch, Sample
from densevision.tasks import TASKS
from densevision.tasks.base import Task
from densevision.training.train import make_card

__all__ = ["CHECKS", "check_task"]

ODD_SIZES = ((97, 131), (64, 33), (1, 1))
"""(height, width) of images that no stride divides."""
FLOAT32 = PredictOptions(precision="float32")


def check_task(
    task_class: type[Task],
    config: TaskConfig,
    skip: Sequence[str] = (),
    files: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
) -> list[str]:
    """Runs all checks of a task, on the CPU.

    Args:
        task_class: The task. Its module lies in a package with the modules `scoring` and `checks`.
        config: A config of a small model, with `data.path` set to scenes.
        skip: Names of checks to leave out, e.g. ("overfit",).
        files: Ground truth and perfect predictions, as `score` takes them; without, only its errors are checked.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: A check failed; the message begins with the task and the name of the check.
    """
    ran = []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        if name in skip:
            continue
        seed_everything(config.train.seed)
        try:
            check(TaskBench(task_class, config, files))
        except AssertionError as error:
            raise AssertionError(f"{task_class.name}: {name}: {error}") from error
        ran.append(name)
    return ran


class TaskBench:
    """A task with its model and batches of its samples."""

    def __init__(self, task_class: type[Task], config: TaskConfig, files: tuple[Any, Any] | None = None):
        self.task_class, self.files = task_class, files
        self.config = task_class.infer_from_data(config)
        self.task = task_class(self.config)
        self.samples = self.task.open_dataset("train")

    def make_batch(self, count: int = 2) -> Batch:
        """Makes a batch of augmented training samples."""
        indices = range(count)
        return Collate(self.task)(
            [self.task.augment(self.samples, i % len(self.samples), np.random.default_rng(i), 0) for i in indices]
        )

    def build_model(self) -> Model:
        """Builds the model with the same initial weights each time."""
        seed_everything(self.config.train.seed)
        return self.task.build_model()

    def build_predictor(self) -> TorchPredictor:
        """Builds a predictor of that model."""
        return TorchPredictor(self.task, self.build_model().eval(), make_card(self.config, len(self.samples)))

    def compute_losses(self, model: Model, batch: Batch, modules: nn.Module | None, name: str = "net") -> Tensors:
        """Computes the losses of one optimizer."""
        return self.task.compute_losses(model, batch, modules, name)

    def make_noise(self, size: tuple[int, int]) -> Sample:
        """Makes a sample of noise images of a (height, width)."""
        rng = np.random.default_rng(0)
        images = {
            name: rng.integers(0, 256, (*size, spec.channels), np.uint8)
            for name, spec in self.task.input_spec.items()
            if spec.kind == "image"
        }
        return Sample(images)

    def import_sibling(self, name: str) -> ModuleType:
        """Imports a module of the task's package."""
        package = self.task_class.__module__.rpartition(".")[0]
        try:
            return import_module(f"{package}.{name}")
        except ImportError as error:
            raise AssertionError(f"{package}.{name} cannot be imported: {error}") from error


# -- config and model ------------------------------------------------------------------------------------------------


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


# -- prediction ------------------------------------------------------------------------------------------------------


def check_odd_sizes(bench: TaskBench) -> None:
    """Images of any size give results of the expected size."""
    predictor = bench.build_predictor()
    for size in ODD_SIZES:
        (result,) = predictor.predict_batch([bench.make_noise(size)], FLOAT32)
        assert tuple(result.size) == bench.task.output_size(size), f"an image of {size} gives a result of {result.size}"
        assert isinstance(result, bench.task_class.Result), f"the result is {type(result).__name__}"


def check_drawing(bench: TaskBench) -> None:
    """Ground truth and predictions can be drawn, and written as JSON."""
    predictor, sample = bench.build_predictor(), bench.task.open_dataset("val")[0]
    (result,) = predictor.predict_batch([sample], FLOAT32)
    image = next(iter(sample.images.values()))
    assert sample.truth is not None, "the sample has no ground truth"
    for record in (result, sample.truth):
        drawing = bench.task.draw(image, record)
        is_rgb = drawing.dtype == np.uint8 and drawing.ndim == 3 and drawing.shape[2] == 3
        assert is_rgb, f"the drawing is {drawing.dtype} of shape {drawing.shape}"
        json.dumps(record.to_dict(), allow_nan=False)


def check_tiles(bench: TaskBench) -> None:
    """Tiled prediction gives results of the same form; a tile as large as the image changes nothing."""
    if "tile" not in bench.task.supported_options:
        return
    predictor, size = bench.build_predictor(), (96, 128)
    source = _to_source(bench.make_noise(size))
    whole, large, small = (_predict(predictor, source, **tile) for tile in ({}, {"tile": 128}, {"tile": 64}))
    _assert_same_form(whole, small)
    if bench.task.merge_strategy == "blend":
        assert whole.row_axes, f"{type(whole).__name__}.row_axes names no array"
        _assert_same_values(whole, large, "a tile of the size of the image")


def check_flips(bench: TaskBench) -> None:
    """With every kind of test-time augmentation, results have the same form; flips commute with mirrored images."""
    if "tta" not in bench.task.supported_options:
        return
    predictor, size = bench.build_predictor(), (64, 64)
    sample = bench.make_noise(size)
    source = _to_source(sample)
    whole = _predict(predictor, source)
    for transform in sorted(bench.task.tta_transforms):
        _assert_same_form(whole, _predict(predictor, source, tta=(transform,)))
    if "flip" in bench.task.tta_transforms and bench.task.merge_strategy == "blend":
        mirrored = {name: np.ascontiguousarray(image[:, ::-1]) for name, image in sample.images.items()}
        result, other = (_predict(predictor, each, tta=("flip",)) for each in (source, _to_source(Sample(mirrored))))
        restored = other.warp(np.array([[-1.0, 0, size[1]], [0, 1, 0]]), size)
        # Both are means of the same two predictions, so that even a nearly constant untrained model shows a difference.
        _assert_same_values(result.warp(np.eye(2, 3), size), restored, "flip of a mirrored image", 0.0, 1e-5)


def check_weights_round_trip(bench: TaskBench) -> None:
    """Saved and loaded weights give the same predictions, and the same config."""
    if bench.task.name not in TASKS:  # loading looks the task up by its name
        return
    predictor, sample = bench.build_predictor(), bench.task.open_dataset("val")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        predictor.save(path)
        loaded = load_torch(path, bench.task_class.name)
    assert loaded.task.config == bench.config, "the config of the card differs"
    (result,), (other,) = (each.predict_batch([sample], FLOAT32) for each in (predictor, loaded))
    for name, values in result.numpy().items():
        is_equal = np.array_equal(values, other.numpy()[name], equal_nan=np.issubdtype(values.dtype, np.floating))
        assert is_equal, f"{name} differs after loading"


def check_export(bench: TaskBench) -> None:
    """The model can be exported, and the file gives the same outputs; by the command line for listed tasks."""
    with tempfile.TemporaryDirectory() as name:
        weights, out = Path(name) / "weights.safetensors", Path(name) / "model.pt2"
        predictor = bench.build_predictor()
        if bench.task.name in TASKS:
            predictor.save(weights)
            command = ["export", "--weights", str(weights), "--format", "torch", "--out", str(out)]
            _assert_exit_code(0, [bench.task.name, *command])
            return
        try:
            export(predictor, out, "torch")
        except DenseVisionError as error:
            raise AssertionError(str(error)) from error


# -- evaluation ------------------------------------------------------------------------------------------------------


def check_decode_encode(bench: TaskBench) -> None:
    """`decode(ideal_outputs(ground_truth))` is the ground truth: its metric is perfect."""
    metric, task = bench.task.build_metric(), bench.task
    for index in range(min(6, len(bench.samples))):
        batch = Collate(task)([bench.samples[index]])
        (truth,), (view,) = batch.target_records, batch.views
        assert truth is not None, "the sample has no ground truth"
        identity = type(view)(view.size, view.size)
        (decoded,) = task.decode(task.ideal_outputs([truth]), [identity], task.evaluation_options())
        metric.update(decoded, truth, index)
    _assert_best_value(bench, metric.compute(), 1e-3)


def check_metric_of_ground_truth(bench: TaskBench) -> None:
    """The metric of the ground truth with itself is perfect, in any order and number of shards."""
    metrics = [bench.task.build_metric() for _ in range(2)]
    for index in range(min(6, len(bench.samples))):
        truth = bench.samples[index].truth
        metrics[index % 2].update(truth, truth, index)
    metrics[1].merge(metrics[0])
    _assert_best_value(bench, metrics[1].compute(), 1e-6)


def check_by_image(bench: TaskBench) -> None:
    """The metrics follow from the statistics of the single images."""
    metric, predictor = bench.task.build_metric(), bench.build_predictor()
    for index in range(min(4, len(bench.samples))):
        sample = bench.samples[index]
        (result,) = predictor.predict_batch([sample], bench.task.evaluation_options().replace(precision="float32"))
        metric.update(result if index % 2 else sample.truth, sample.truth, index)
    images, expected = metric.per_image(), metric.compute()
    numbers = images.compute_weighted(np.ones((1, len(images.ids))))
    monitored = bench.task.monitor[0]
    assert monitored in numbers, f"per_image() lacks {monitored}"
    for name, values in numbers.items():
        is_close = np.isclose(values[0], expected[name], rtol=1e-9, atol=1e-12, equal_nan=True)
        assert is_close, f"{name} is {expected[name]}, but {values[0]} from the single images"
    lengths = {len(values) for values in images.compute_each().values()}
    assert lengths == {len(images.ids)}, "compute_each() lacks images"


def check_empty_truth(bench: TaskBench) -> None:
    """Samples without any label can be trained on and evaluated."""
    unlabeled = [bench.task.remove_labels(bench.samples[index]) for index in (0, 1)]
    batch = Collate(bench.task)(unlabeled)
    model, modules = bench.build_model().train(), bench.task.build_training_modules()
    for optimizer_name in bench.task.optimizer_names:
        for name, value in bench.compute_losses(model, batch, modules, optimizer_name).items():
            assert torch.isfinite(value), f"{optimizer_name}/{name} is {value} without ground truth"
    metric = bench.task.build_metric()
    metric.update(unlabeled[0].truth, unlabeled[0].truth, 0)
    metric.compute()


def check_score(bench: TaskBench) -> None:
    """The module `scoring` scores files; files that do not exist are a clear error."""
    scoring = bench.import_sibling("scoring")
    for name in ("score", "open_files"):
        assert callable(getattr(scoring, name, None)), f"{scoring.__name__}.{name} is missing"
    with tempfile.TemporaryDirectory() as folder:
        missing = Path(folder) / "missing"
        _assert_clear_error(lambda: scoring.score(missing, missing, "fail"), f"{scoring.__name__}.score")
    if bench.files is not None:
        report = scoring.score(*map(Path, bench.files), "fail")
        missing_parts = {"metrics", "protocol", "counts", "named", "tables"} - report.keys()
        assert not missing_parts, f"{scoring.__name__}.score lacks {sorted(missing_parts)}"
        _assert_best_value(bench, report["metrics"], 1e-3)


def check_metric_info(bench: TaskBench) -> None:
    """Every metric has a description beside it, and the monitored one agrees with the task's direction."""
    module, metric = bench.import_sibling("metrics"), bench.task.build_metric()
    table = getattr(module, "METRIC_INFO", None)
    assert table, f"{module.__name__}.METRIC_INFO is missing"
    truth = bench.samples[0].truth
    metric.update(truth, truth, 0)
    unknown = [name for name in metric.compute() if not find_metric_info(table, name).text]
    assert not unknown, f"METRIC_INFO lacks {unknown}"
    name, direction = bench.task.monitor
    is_maximized = find_metric_info(table, name).higher_is_better
    assert is_maximized == (direction == "max"), f"{name} is to be {direction}imized, METRIC_INFO says otherwise"
    assert metric.protocol, "the metric states no protocol"


def check_dataset_checks(bench: TaskBench) -> None:
    """The module `checks` checks datasets; one that does not exist is a clear error."""
    checks = bench.import_sibling("checks")
    assert getattr(checks, "CHECKS", None), f"{checks.__name__}.CHECKS is missing"
    assert callable(getattr(checks, "check", None)), f"{checks.__name__}.check is missing"
    config = bench.config.replace(data__path="/missing/dataset")
    _assert_clear_error(
        lambda: check_dataset(bench.task.name, config, checks.check, None, hide_progress), f"{checks.__name__}.check"
    )


def check_command_line(bench: TaskBench) -> None:
    """The verbs of the command line work; for tasks that densevision lists."""
    if bench.task.name not in TASKS:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights.safetensors"
        bench.build_predictor().save(weights)
        images = bench.make_noise((64, 64)).images.values()
        for index, image in enumerate(images):
            write_image(folder / "images" / f"{index}.png", to_rgb(image))
        source = folder / "images" if len(images) > 1 else folder / "images" / "0.png"
        data = ["--data", "scenes:2:0"]
        for arguments in (
            ["info"],
            ["predict", str(source), "--out", str(folder / "out")],
            ["evaluate", *data],
        ):
            verb, *rest = arguments
            command = [bench.task.name, verb, *rest, "--weights", str(weights)]
            _assert_exit_code(0, command)
        missing = str(folder / "missing")
        scored = list(map(str, bench.files or (missing, missing)))
        options = ["--truth", scored[0], "--predictions", scored[1], "--json"]
        _assert_exit_code(0 if bench.files else 3, [bench.task.name, "score", *options])
        _assert_exit_code(3, [bench.task.name, "check", missing])


CHECKS: tuple[Callable[[TaskBench], None], ...] = (
    check_config_round_trip,
    check_help,
    check_same_types,
    check_finite_losses,
    check_gradients,
    check_odd_sizes,
    check_drawing,
    check_tiles,
    check_flips,
    check_decode_encode,
    check_metric_of_ground_truth,
    check_by_image,
    check_empty_truth,
    check_metric_info,
    check_score,
    check_dataset_checks,
    check_overfit,
    check_same_seed,
    check_weights_round_trip,
    check_export,
    check_command_line,
    check_bfloat16,
)


def _sum(losses: Tensors) -> torch.Tensor:
    return functools.reduce(torch.add, losses.values())


def _to_source(sample: Sample) -> Any:
    images = tuple(sample.images.values())
    return images if len(images) > 1 else images[0]


def _predict(predictor: TorchPredictor, source: Any, **options: Any) -> Result:
    return predict(predictor, source, precision="float32", **options)


def _assert_same_form(result: Result, other: Result) -> None:
    assert type(result) is type(other) and result.size == other.size, f"{result.size} became {other.size}"
    for name in result.row_axes:
        values, others = getattr(result, name), getattr(other, name)
        if values is None:
            assert others is None, f"{name} appears"
            continue
        assert others is not None and values.dtype == others.dtype, f"{name} changes its type"
        assert values.shape == others.shape, f"{name} of shape {values.shape} became {others.shape}"


def _assert_same_values(
    result: Result, other: Result, title: str, relative: float = 1e-2, absolute: float = 1e-3
) -> None:
    """Nearly all values are equal, up to a hundredth of their spread: rounding may decide the class of a few pixels."""
    _assert_same_form(result, other)
    for name in result.row_axes:
        values, others = getattr(result, name), getattr(other, name)
        if values is None:
            continue
        values, others = (np.asarray(each, np.float64) for each in (values, others))
        spread = np.ptp(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
        is_close = np.isclose(values, others, rtol=relative, atol=1e-2 * spread + absolute, equal_nan=True)
        assert is_close.mean() > 0.95, f"{name} differs in {1 - is_close.mean():.0%} of its values: {title}"


def _assert_best_value(bench: TaskBench, metrics: dict[str, float], tolerance: float) -> None:
    name, _ = bench.task.monitor
    value, best = metrics[name], bench.task.best_possible_value
    assert value == best or abs(value - best) <= tolerance, f"{name} is {value}, but {best} is perfect"


def _assert_exit_code(code: int, command: list[str]) -> None:
    from densevision.cli.main import run

    output, found = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            run(command)
        except SystemExit as ending:
            found = int(ending.code or 0)
    assert found == code, f"{' '.join(command)} exits with {found}, not {code}: {output.getvalue()[-300:]}"


def _assert_clear_error(call: Callable[[], Any], title: str) -> None:
    try:
        call()
    except DenseVisionError:
        return
    except Exception as error:
        raise AssertionError(f"{title} fails with {type(error).__name__}: {error}") from error
    raise AssertionError(f"{title} accepts files that do not exist")
