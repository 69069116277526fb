"""A loaded model needs nothing but its weights, and options of one call do not change it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision import api
from densevision.errors import UsageError, WeightsError
from densevision.inference.predictor import TorchPredictor, load_torch
from densevision.nn import backbone
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card

SETTINGS = {"arch": "depth_unet", "backbone.name": "test_resnet", "model.width": 8}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights whose backbone started from a file that no longer exists."""
    task = load_task("depth")(load_config("depth").resolve(None, SETTINGS))
    config = task.config.replace(backbone__pretrained="missing.safetensors")
    card = replace(make_card(task.config, 0), config=config.to_dict())
    TorchPredictor(task, task.build_model(), card).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_configure__needs_no_pretrained_file(file: Path) -> None:
    predictor = load_torch(file)
    before = predictor.model.state_dict()
    predictor.configure({"evaluation.align": "median"})
    assert predictor.task.config.backbone.pretrained is False
    assert predictor.card.config["backbone"]["pretrained"] == "missing.safetensors"
    assert all(torch.equal(tensor, before[name]) for name, tensor in predictor.model.state_dict().items())


def test_load_torch__builds_the_backbone_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    build = backbone.Backbone.__init__

    def count(self: backbone.Backbone, *arguments: object, **options: object) -> None:
        calls.append(arguments)
        build(self, *arguments, **options)

    monkeypatch.setattr(backbone.Backbone, "__init__", count)
    predictor = load_torch(file)
    predictor.predict(np.zeros((64, 64, 3), np.uint8))
    assert len(calls) == 1
    assert not any(tensor.is_meta for tensor in (*predictor.model.parameters(), *predictor.model.buffers()))


def test_predictor__options_of_a_call_do_not_change_it() -> None:
    predictor = api.load("bicubic", "superres")
    task, options = predictor.task, predictor.options
    image = np.zeros((8, 9, 3), np.uint8)
    assert api.predict(image, weights=predictor, overrides={"scale": 3}).size == (24, 27)
    api.evaluate(weights=predictor, data="scenes:4:1", overrides={"quality.color": "RGB"}, quiet=True)
    assert predictor.task is task and predictor.options is options
    assert api.predict(image, weights=predictor).size == (16, 18)


def test_predictor__of_another_task_is_refused() -> None:
    predictor = api.load("bicubic", "superres")
    for function in (api.predict, api.evaluate, api.export):
        arguments = {"source": np.zeros((8, 9, 3), np.uint8)} if function is api.predict else {}
        with pytest.raises(WeightsError):
            function(weights=predictor, task="depth", **arguments)


def test_overrides__data_options_only_where_they_change_the_canvas() -> None:
    predictor, image = api.load(task="detection"), np.zeros((40, 50, 3), np.uint8)
    api.predict(image, weights=predictor, overrides={"data.size": 64})
    api.predict(image, weights=predictor, overrides={"data.size": predictor.task.config.data.size})
    with pytest.raises(UsageError) as error:
        api.predict(image, weights=predictor, overrides={"data.workers": 3})
    assert error.value.field == "data.workers"


def test_model__handed_out_its_changes_take_effect(file: Path) -> None:
    predictor, image = load_torch(file), np.full((64, 64, 3), 90, np.uint8)
    before = predictor.predict(image, precision="float32").depth
    model = predictor.model
    np.testing.assert_allclose(predictor.predict(image, precision="float32").depth, before, rtol=1e-4)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert not np.allclose(predictor.predict(image, precision="float32").depth, before, rtol=1e-2)
    assert calls


def test_predictor__forms_of_several_precisions_and_copies(file: Path) -> None:
    predictor, image = load_torch(file), np.full((64, 64, 3), 90, np.uint8)
    single = predictor.predict(image, precision="float32").depth
    half = predictor.predict(image, precision="bfloat16").depth
    assert not np.array_equal(single, half)
    np.testing.assert_allclose(half, single, rtol=0.2)
    for other in (predictor, copy.deepcopy(predictor)):
        np.testing.assert_array_equal(other.predict(image, precision="float32").depth, single)
