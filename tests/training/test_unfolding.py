"""Training that starts from weights whose batch norms were folded into convolutions."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from densevision.inference.loader import make_training_loader
from densevision.nn.folded_norms import find_folded_norms
from densevision.tasks import load_config, load_task
from densevision.tasks.base import Task
from densevision.training.unfolding import unfold_model_norms


def make_task() -> Task:
    settings: dict[str, Any] = {"arch": "yolox_nano", "data.path": "scenes:16", "data.size": 64, "train.batch": 8}
    task_class = load_task("detection")
    return task_class(task_class.infer_from_data(load_config("detection").resolve(None, settings)))


@torch.no_grad()
def fold_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Makes every norm add a bias and nothing else, as in a network that was converted for inference."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_var.fill_(1 - norm.eps)
        nn.init.normal_(norm.bias, std=0.5)
    return norms


def test_unfold_model_norms__predictions_stay_and_training_mode_agrees(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    task = make_task()
    samples = task.open_dataset("train")
    model = task.build_model()
    norms = fold_norms(model)
    image = next(iter(make_training_loader(task, samples, 0))).inputs["image"]
    with torch.no_grad():
        expected = model.eval()(image=image)["box_deltas"]
        with caplog.at_level(logging.WARNING, "densevision"):
            assert unfold_model_norms(task, model, samples, torch.device("cpu")) == len(norms)
        torch.testing.assert_close(model(image=image)["box_deltas"], expected, rtol=1e-3, atol=1e-3)
        trained_on = model.train()(image=image)["box_deltas"]
    assert "16 training images" in caplog.text
    assert (trained_on - expected).abs().mean() < 0.3 * expected.std()
    assert find_folded_norms(model) == []


def test_unfold_model_norms__leaves_new_and_trained_norms_alone() -> None:
    task = make_task()
    model = task.build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert unfold_model_norms(task, model, task.open_dataset("train"), torch.device("cpu")) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
