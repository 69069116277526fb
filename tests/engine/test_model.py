"""A model that is loaded: its own weights are all that it needs."""

from __future__ import annotations

from dataclasses import replace

import torch

from densevision import api
from densevision.engine.model import TorchModel
from densevision.engine.train import card_of
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth


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
