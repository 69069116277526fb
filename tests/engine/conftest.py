"""A detector so small that a run takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from densevision.data.scenes import CLASSES
from densevision.engine.model import TorchModel
from densevision.engine.seed import seed_everything
from densevision.engine.train import card_of
from densevision.tasks import load_config, load_task

TINY: dict[str, Any] = {
    "preset": "nano",
    "backbone.name": "mobilenetv2_050",
    "data.size": 64,
    "train.epochs": 3,
    "train.batch": 4,
    "train.seed": 3,
    "train.precision": "float32",
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Settings of a run over 8 scenes."""
    return dict(TINY)


@pytest.fixture(scope="session")
def weights(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of random weights that does detect something."""
    config = load_config("detection").resolve(None, {**tiny, "data.path": "scenes:20:5", "classes": list(CLASSES)})
    task = load_task("detection")(config)
    seed_everything(0)
    net = task.net().eval()
    torch.nn.init.normal_(net.head.classify.predict.weight, std=0.5)
    torch.nn.init.constant_(net.head.classify.predict.bias, -1.0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    TorchModel(task, net, card_of(config, 20)).save(path)
    return path
