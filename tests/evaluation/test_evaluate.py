"""Evaluation equals prediction followed by the metric, for any number of processes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import densevision
from densevision.evaluation import evaluate as evaluation_module
from densevision.evaluation.evaluate import divide_rows, evaluate
from densevision.inference.predictor import load_torch
from densevision.metrics.average_precision import AveragePrecision
from densevision.run_config import PredictOptions


def evaluate_weights(weights: Path) -> dict:
    model = load_torch(weights)
    options = model.task.evaluation_options().replace(precision="float32")
    return evaluate(model, model.task.open_dataset("val"), options, losses=True).report.to_dict()


def evaluate_as_one_of_two(rank: int, weights: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out / 'rendezvous'}", rank=rank, world_size=2)
    evaluation_module.PART_SAMPLES = 3  # each process has several parts
    (out / f"{rank}.json").write_text(json.dumps(evaluate_weights(weights)))
    dist.destroy_process_group()


def test_evaluate__two_processes_equal_one(weights: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, __file__, "1", str(weights), str(tmp_path)])
    threads = torch.get_num_threads()
    evaluate_as_one_of_two(0, weights, tmp_path)
    single = json.loads(json.dumps(evaluate_weights(weights)))
    torch.set_num_threads(threads)
    evaluation_module.PART_SAMPLES = 16
    assert process.wait(300) == 0
    pair = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert pair[0] == pair[1] == single
    assert single["counts"]["predictions"] > 100 and single["counts"]["truths"] > 0


def test_divide_rows__whole_batches_of_a_bounded_number_of_parts() -> None:
    parts = divide_rows(100, PredictOptions(batch=6))
    assert [row for part in parts for row in part] == list(range(100)) and {len(part) for part in parts[:-1]} == {18}
    assert len(divide_rows(10**6, PredictOptions())) <= 1024 and divide_rows(0, PredictOptions()) == []
    assert len(divide_rows(100, PredictOptions(warm_start=True))) == 1


@pytest.mark.parametrize("task", ["depth", "superres"])
def test_evaluate__sums_of_floats_do_not_depend_on_the_number_of_processes(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = densevision.load(task=task)
    model.configure({"data.path": "scenes:16:1"})
    samples = model.task.open_dataset("val")
    options = model.task.evaluation_options().replace(precision="float32")
    monkeypatch.setattr(evaluation_module, "PART_SAMPLES", 2)
    alone = evaluate(model, samples, options).report.to_dict()
    gathered: list[bytes] = []

    def send(value: Any) -> list[Any]:
        gathered.append(pickle.dumps(value))
        return [value]

    monkeypatch.setattr(evaluation_module, "gather_objects", send)
    for rank in range(3):
        monkeypatch.setattr(evaluation_module, "get_rank_and_world_size", lambda rank=rank: (rank, 3))
        evaluate(model, samples, options)
    shares = list(map(pickle.loads, gathered))
    assert [len(share) for share in shares] == [3, 3, 2]
    monkeypatch.setattr(evaluation_module, "gather_objects", lambda _: shares)
    assert evaluate(model, samples, options).report.to_dict() == alone


def test_evaluate__equals_predict_and_metric(weights: Path) -> None:
    model = load_torch(weights)
    options = {"score_threshold": 0.001, "precision": "float32"}
    report = densevision.evaluate("detection", weights=model, **options)
    samples, metric = model.task.open_dataset("val"), AveragePrecision(model.task.config.classes)
    for index in range(len(samples)):
        sample = samples[index]
        metric.update(densevision.predict(sample.images["image"], weights=model, **options), sample.truth, sample.id)
    np.testing.assert_equal(report.metrics, metric.compute())


def test_report__protocol(weights: Path, tmp_path: Path) -> None:
    report = densevision.evaluate(data="scenes:20:5", weights=weights, out=tmp_path, precision="float32")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written == json.loads(report.to_json())
    assert set(written) >= {"task", "metrics", "protocol", "counts"}
    assert written["protocol"]["prediction"]["precision"] == "float32"
    assert written["protocol"]["prediction"]["score_threshold"] == 0.001
    assert (tmp_path / "plots" / "confusion.png").stat().st_size > 1000


def test_losses__repeatable(weights: Path) -> None:
    model = load_torch(weights)
    samples = model.task.open_dataset("val")
    options = PredictOptions(batch=8, precision="float32")
    means = [evaluate(model, samples, options, losses=True).losses for _ in range(2)]
    assert means[0] == means[1] and all(np.isfinite(value) for value in means[0].values())


def test_losses__share_the_pass_of_the_predictions(weights: Path) -> None:
    model = load_torch(weights)
    samples = model.task.open_dataset("val")
    options = PredictOptions(batch=8, precision="float32")
    passes: list[int] = []
    model.model.register_forward_hook(lambda *_: passes.append(len(passes)))
    alone = evaluate(model, samples, options).report.metrics
    count = len(passes)
    both = evaluate(model, samples, options, losses=True)
    assert both.report.metrics == pytest.approx(alone, rel=0, abs=0, nan_ok=True) and both.losses
    assert len(passes) == 2 * count > 0


def test_report__page_of_a_model(weights: Path, tmp_path: Path) -> None:
    report = densevision.evaluate(data="scenes:20:5", weights=weights, report=tmp_path, precision="float32")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (
        f"densevision detection evaluate --weights {weights} --data scenes:20:5 --split val --precision float32" in page
    )
    assert all(part in page for part in ("Weights", "license", "Full card", "Worst by AP", "per class"))
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["metrics"] == report.to_dict()["metrics"] and set(written["intervals"]) == set(report.metrics)


def test_examples__predictions_of_selected_images(weights: Path) -> None:
    from densevision import api

    evaluation = api.evaluate_detailed(weights=weights, precision="float32")
    all_images = evaluation.metric.per_image()
    ids = all_images.ids[::-1][:3]
    examples = list(evaluation.examples(ids))
    assert tuple(example.image_id for example in examples) == ids
    metric = AveragePrecision(examples[0].truth.names)
    for example in examples:
        metric.update(example.prediction, example.truth, example.image_id)
    selection = metric.per_image()
    for image_id in ids:
        first, second = (stats.compute_each()["AP"][stats.ids.index(image_id)] for stats in (all_images, selection))
        np.testing.assert_allclose(first, second)


if __name__ == "__main__":  # the processes of test_evaluate__two_processes_equal_one
    evaluate_as_one_of_two(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
