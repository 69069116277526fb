"""The task joint: the contract, equality with tasks of their own, resume, and what runs of it leave."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision.errors import UsageError
from densevision.io.weights import load_weights
from densevision.tasks import load_config, load_task
from densevision.testing import check_task

SMALL: dict[str, Any] = {
    "data.size": 64,
    "backbone.name": "test_resnet",
    "backbone.pretrained": False,
    "train.batch": 4,
    "train.epochs": 2,
    "train.device": "cpu",
    "train.precision": "float32",
}
PARTS: dict[str, dict[str, Any]] = {
    "detection": {"arch": "yolo_n", "model.width": 16, "model.depth": 1, "augment.multi_scale": 0.3},
    "semantic": {"arch": "unet", "model.decoder_options": {"decoder_channels": [16, 8, 8, 8, 8]}},
    "depth": {"arch": "depth_unet", "model.width": 16},
}


def section(name: str) -> dict[str, Any]:
    return {f"{name}.{option}": value for option, value in PARTS[name].items()}


def options(*names: str, **settings: Any) -> dict[str, Any]:
    sections = {option: value for name in names for option, value in section(name).items()}
    return {**SMALL, "tasks": list(names), **sections, **{k.replace("__", "."): v for k, v in settings.items()}}


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "images_per_second", "memory_mb")}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_contract() -> None:
    """Everything that `check_task` checks, without an exception."""
    names = options("detection", "semantic", "depth", detection__augment__mosaic=0.0, data__path="scenes:6:0")
    config = load_config("joint").resolve(None, names)
    assert len(check_task(load_task("joint"), config)) > 20


@pytest.mark.parametrize("name", ["detection", pytest.param("semantic", marks=pytest.mark.slow), "depth"])
def test_one_task__trains_as_on_its_own_bit_for_bit(name: str, tmp_path: Path) -> None:
    settings = {**SMALL, "train.ema_decay": 0.9, "train.accumulate_grad_batches": 3}
    alone = densevision.train(
        name, "scenes:16:0", overrides={**settings, **PARTS[name]}, out=tmp_path / "a", quiet=True
    )
    settings |= {"tasks": [name], **section(name)}
    joint = densevision.train("joint", "scenes:16:0", overrides=settings, out=tmp_path / "b", quiet=True)
    weights, (joint_weights, card) = (
        load_weights(alone / "last.safetensors")[0],
        load_weights(joint / "last.safetensors"),
    )
    names = {key if key.startswith("encoder.") else f"heads.{name}.{key}": value for key, value in weights.items()}
    assert names.keys() == joint_weights.keys()
    assert [key for key, value in names.items() if not torch.equal(value, joint_weights[key])] == []
    for row, joint_row in zip(read_rows(alone), read_rows(joint), strict=True):
        found = {key.replace(f"{name}/", ""): value for key, value in joint_row.items() if key != "mean"}
        assert found == row
    assert card.task == "joint" and card.config[name]["arch"] == PARTS[name]["arch"]


def test_resume__equals_an_uninterrupted_run(tmp_path: Path) -> None:
    settings = options("detection", "depth", balance__method="pcgrad", train__ema_decay=0.9)
    whole = densevision.train("joint", "scenes:8:0", overrides=settings, out=tmp_path / "whole", quiet=True)
    rows = read_rows(whole)
    assert float(rows[-1]["gradient/norm/depth"]) > 0 and abs(float(rows[-1]["gradient/cosine/detection/depth"])) <= 1
    short = {**settings, "train.epochs": 2, "train.max_time": 1e-9}
    stopped = densevision.train("joint", "scenes:8:0", overrides=short, out=tmp_path / "stopped", quiet=True)
    assert len(read_rows(stopped)) == 1
    text = (stopped / "config.yaml").read_text().replace("max_time: 1.0e-09", "max_time: null")
    (stopped / "config.yaml").write_text(text)
    densevision.train(resume=stopped, quiet=True)
    assert read_rows(stopped) == rows
    expected, found = (load_weights(folder / "last.safetensors")[0] for folder in (whole, stopped))
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []


@pytest.mark.parametrize("method", ["fixed", "pcgrad"])
def test_gradients__measured_and_projected_in_half_precision(method: str, tmp_path: Path) -> None:
    settings = options("detection", "depth", balance__method=method, train__precision="bfloat16", train__epochs=1)
    run = densevision.train("joint", "scenes:4:0", overrides=settings, out=tmp_path / "run", quiet=True)
    row = read_rows(run)[-1]
    assert float(row["gradient/norm/detection"]) > 0 and float(row["gradient/norm/depth"]) > 0
    assert abs(float(row["gradient/cosine/detection/depth"])) <= 1


def test_datasets__of_single_tasks_teach_their_heads(tmp_path: Path) -> None:
    """Disjoint datasets, one per task: batches mix them, and each head learns from its own images."""
    settings = options(
        "detection",
        "depth",
        detection__data__path="scenes:8:1",
        depth__data__path="scenes:8:2",
        data__proportions={"detection": 1, "depth": 3},
        balance__method="uncertainty",
    )
    folder = densevision.train("joint", overrides=settings, out=tmp_path / "run", quiet=True)
    row = read_rows(folder)[-1]
    assert float(row["train/depth/silog"]) > 0 and float(row["train/detection/class"]) > 0
    report = densevision.evaluate("joint", "scenes:8:3", folder / "last.safetensors", quiet=True)
    assert report.counts["images"] == 16 and {"mean", "detection/AP", "depth/AbsRel"} <= report.metrics.keys()
    own = densevision.evaluate(
        "joint",
        weights=folder / "last.safetensors",
        overrides={"detection.data.path": "scenes:8:1", "depth.data.path": "scenes:8:2"},
        quiet=True,
    )
    assert own.counts["images"] == 32
    assert own.metrics["depth/AbsRel"] == pytest.approx(float(row["depth/AbsRel"]), rel=1e-4)


def test_predict__a_dict_of_results(tmp_path: Path) -> None:
    config = load_config("joint").resolve(None, options("detection", "semantic", "depth", data__path="scenes:4:0"))
    task = load_task("joint")(load_task("joint").infer_from_data(config))
    from densevision.inference.predictor import TorchPredictor
    from densevision.training.train import make_card

    predictor = TorchPredictor(task, task.build_model().eval(), make_card(task.config, 4))
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    result = predictor.predict(image, precision="float32", score_threshold=0.0, probabilities=True)
    assert list(result) == ["detection", "semantic", "depth"] and result.size == (48, 80)
    assert len(result["detection"]) > 0 and result["semantic"].probabilities is not None
    assert result.draw().shape == (48, 240, 3)
    assert set(result.to_dict()["results"]) == {"detection", "semantic", "depth"}
    for name in ("a.png", "a.json", "a.npz", "a.txt", "a.labels.png"):
        assert result.save(tmp_path / name).stat().st_size >= 0
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["depth.depth"], result["depth"].depth)
    tiled = predictor.predict(image, precision="float32", tile=64, tta="flip")
    assert tiled["depth"].depth.shape == (48, 80) and tiled.size == (48, 80)
    # Without tiles, a part by itself predicts what it predicts among the others.
    whole = predictor.predict(image, precision="float32", tile=128)
    np.testing.assert_allclose(whole["depth"].depth, result["depth"].depth, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"detectoin.arch": "yolo_n"}, "detectoin"),
        ({"tasks": ["depth"], "semantic.arch": "unet"}, "semantic"),
        ({"tasks": ["sound"]}, "tasks"),
        ({"tasks": ["depth", "depth"]}, "tasks"),
        ({"detection.train.lr": 0.1}, "detection.train"),
        ({"depth.data.size": 32}, "depth.data.size"),
        ({"depth.loss.silog": -1.0}, "depth.loss.silog"),
        ({"arch": "yolo_n"}, "arch"),
        ({"balance.weights": {"dep": 1.0}}, "balance.weights.dep"),
        ({"balance.method": "pcgrad", "train.devices": 2}, "train.devices"),
    ],
)
def test_config__refuses(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as error:
        load_config("joint").resolve(None, settings)
    assert error.value.field == field


def test_config__another_dataset_replaces_those_of_the_tasks() -> None:
    config = load_config("joint").resolve(None, {"data.path": "A", "depth.data.path": "B", "depth.camera.focal": 50.0})
    assert config.dataset == "detection: A, semantic: A, depth: B"
    moved = config.replace(data__path="C")
    assert moved.dataset == "C" and moved.heads["depth"].data.camera == ()  # type: ignore[attr-defined]
    assert config.replace(data__path="C", depth__data__path="D").dataset == "detection: C, semantic: C, depth: D"
    assert type(config).from_dict(config.to_dict()) == config
