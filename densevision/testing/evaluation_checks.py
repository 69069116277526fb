"""Checks of a task's metrics, scores of files, dataset checks and commands."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densevision.datasets.checks.report import check_dataset
from densevision.errors import DenseVisionError
from densevision.inference.loader import Collate
from densevision.inference.progress import hide_progress
from densevision.io.image import to_rgb, write_image
from densevision.metrics.metric_info import find_metric_info
from densevision.tasks import TASKS, get_score
from densevision.testing.task_bench import TaskBench, assert_exit_code

__all__ = [
    "check_by_image",
    "check_command_line",
    "check_dataset_checks",
    "check_decode_encode",
    "check_empty_truth",
    "check_metric_info",
    "check_metric_of_ground_truth",
    "check_score",
]


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
    assert callable(getattr(scoring, "open_files", None)), f"{scoring.__name__}.open_files is missing"
    score = get_score(scoring)
    with tempfile.TemporaryDirectory() as folder:
        missing = Path(folder) / "missing"
        _assert_clear_error(lambda: score(missing, missing, "fail"), f"scores by {scoring.__name__}")
    if bench.files is not None:
        report = score(*map(Path, bench.files), "fail")
        missing_parts = {"metrics", "protocol", "counts", "named", "tables"} - report.keys()
        assert not missing_parts, f"the scores by {scoring.__name__} lack {sorted(missing_parts)}"
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
            assert_exit_code(0, command)
        missing = str(folder / "missing")
        scored = list(map(str, bench.files or (missing, missing)))
        options = ["--truth", scored[0], "--predictions", scored[1], "--json"]
        assert_exit_code(0 if bench.files else 3, [bench.task.name, "score", *options])
        assert_exit_code(3, [bench.task.name, "check", missing])


def _assert_best_value(bench: TaskBench, metrics: dict[str, float], tolerance: float) -> None:
    name, _ = bench.task.monitor
    value, best = metrics[name], bench.task.best_possible_value
    assert value == best or abs(value - best) <= tolerance, f"{name} is {value}, but {best} is perfect"


def _assert_clear_error(call: Callable[[], Any], title: str) -> None:
    try:
        call()
    except DenseVisionError:
        return
    except Exception as error:
        raise AssertionError(f"{title} fails with {type(error).__name__}: {error}") from error
    raise AssertionError(f"{title} accepts files that do not exist")
