"""What a run takes from the weights that it starts from, besides the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import densevision
from densevision.inference.predictor import load_matching_weights
from densevision.io.weights import Card, load_card, load_weights, save_weights
from densevision.tasks import load_config, load_task
from densevision.training.inherited_options import list_inherited_options


def save_detector(path: Path) -> Path:
    settings = {"arch": "yolo_n", "model.width": 32, "backbone.name": "test_resnet", "data.size": 96}
    config = load_config("detection").resolve(None, {**settings, "classes": ["cup"], "data.path": "/elsewhere"})
    model = load_task("detection")(config).build_model()
    save_weights(path, model.state_dict(), Card("detection", config.to_dict(), classes=("cup",)))
    return path


def inherit(file: Path, task: str = "detection", **overrides: Any) -> dict[str, Any]:
    settings = {name.replace("__", "."): value for name, value in overrides.items()}
    return list_inherited_options(file, load_config(task).resolve(None, settings), settings)


def test_inherited_options__rebuild_the_network_for_other_classes(tmp_path: Path) -> None:
    file = save_detector(tmp_path / "a.safetensors")
    inherited = inherit(file)
    assert not {"classes", "category_ids", "task", "data.path"} & set(inherited)
    config = load_config("detection").resolve(None, {**inherited, "classes": ["cup", "spoon"]})
    assert config.arch == "yolo_n" and config.data.size == 96 and config.data.path is None
    model = load_task("detection")(config).build_model()
    skipped = load_matching_weights(model, file, "detection", config.classes)
    assert skipped == [], "one class is matched by name, the rows of the other are new"


def test_inherited_options__what_the_run_sets_wins(tmp_path: Path) -> None:
    file = save_detector(tmp_path / "a.safetensors")
    assert inherit(file, arch="yolo_s") == {}
    assert "data.size" not in inherit(file, data__size=64)
    assert inherit(file, data__size=64)["arch"] == "yolo_n"


@pytest.mark.parametrize("overrides", [{}, {"backbone__name": "resnet10t"}])
def test_inherited_options__another_task_takes_the_backbone(tmp_path: Path, overrides: dict[str, str]) -> None:
    inherited = inherit(save_detector(tmp_path / "a.safetensors"), "semantic", **overrides)
    expected = (
        set() if overrides else {f"backbone.{name}" for name in ("name", "mean", "std", "output_stride", "options")}
    )
    assert set(inherited) == expected


def test_inherited_options__factor_of_super_resolution(tmp_path: Path) -> None:
    config = load_config("superres").resolve(None, {"scale": 3})
    save_weights(tmp_path / "a.safetensors", {}, Card("superres", config.to_dict()))
    assert inherit(tmp_path / "a.safetensors", "superres")["scale"] == 3


@pytest.mark.slow
def test_train__from_a_file_of_another_architecture(tmp_path: Path) -> None:
    """Only the data and the weights are named: the run builds their network for the classes of the data."""
    settings = {"arch": "yolox_nano", "data.size": 64, "classes": ["cup", "unknown thing"]}
    config = load_config("detection").resolve(None, settings)
    model = load_task("detection")(config).build_model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1 - module.eps)
            nn.init.normal_(module.bias, std=0.1)
    save_weights(tmp_path / "a.safetensors", model.state_dict(), Card("detection", config.to_dict(), config.classes))
    options = {"train.init_from": str(tmp_path / "a.safetensors"), "train.epochs": 1, "data.workers": 0}
    run = densevision.train("detection", "scenes:8", overrides=options, out=tmp_path / "run", quiet=True)
    card = load_card(run / "last.safetensors")
    assert card.config["arch"] == "yolox_nano" and card.config["data"]["size"] == 64
    assert card.classes and "unknown thing" not in card.classes
    state, _ = load_weights(run / "last.safetensors")
    assert any(abs(state[name]).max() > 0 for name in state if name.endswith("running_mean"))
