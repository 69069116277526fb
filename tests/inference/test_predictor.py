"""A model that is loaded: its own weights are all that it needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densevision import api
from densevision.errors import UsageError, WeightsError
from densevision.inference.predictor import TorchModel
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth
from densevision.training.train import card_of


def test_configure__needs_no_file_that_the_backbone_began_with(tmp_path):
    task = Depth(DepthConfig.checked({"backbone": {"name": "mobilenetv2_050"}, "width": 8}))
    began = task.config.changed(backbone__pretrained="gone.safetensors")
    card = replace(card_of(task.config, 0), config=began.plain())
    TorchModel(task, task.net(), card).save(tmp_path / "a.safetensors")
    model = api.load(tmp_path / "a.safetensors")
    before = model.net.state_dict()
    model.configure({"evaluation.align": "median"})
    assert model.task.config.backbone.pretrained == "gone.safetensors"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())


def test_model__stays_as_it_is_whatever_is_asked_of_it():
    """Judging has options of its own, and a setting is of the call that gives it."""
    model = api.load("bicubic", "superres")
    task, options = model.task, model.options
    image = np.zeros((8, 9, 3), np.uint8)
    assert api.predict(image, weights=model, set={"scale": 3}).size == (24, 27)
    api.evaluate(model, "scenes:4:1", set={"quality.color": "RGB"})
    assert model.task is task and model.options is options
    assert api.predict(image, weights=model).size == (16, 18)


def test_model__of_another_task_is_refused():
    model = api.load("bicubic", "superres")
    for ask in (api.predict, api.evaluate, api.export):
        words = {"source": np.zeros((8, 9, 3), np.uint8)} if ask is api.predict else {}
        with pytest.raises(WeightsError, match="these weights are for superres, not for depth"):
            ask(weights=model, task="depth", **words)


def test_settings__of_data_bear_on_answers_where_they_shape_the_canvas():
    model, image = api.load(task="detection"), np.zeros((40, 50, 3), np.uint8)
    api.predict(image, weights=model, set={"data.size": 64})
    api.predict(image, weights=model, set={"data.size": model.task.config.data.size})
    with pytest.raises(UsageError, match=r"data\.workers: has no effect on answers of detection"):
        api.predict(image, weights=model, set={"data.workers": 3})
