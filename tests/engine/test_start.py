"""Training that starts from weights: what fits is taken, the rest is named."""

from __future__ import annotations

import pytest
import torch

from densevision.engine.model import TorchModel, start_from
from densevision.engine.train import card_of
from densevision.errors import WeightsError
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow


def task(**settings) -> Flow:
    return Flow(FlowConfig.checked({"preset": "tiny", **settings}))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    before = task(occlusion=False)
    TorchModel(before, before.net(), card_of(before.config, 0)).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors", before


def test_start__takes_all_that_fits(weights):
    path, before = weights
    net, other = before.net(), before.net()
    assert start_from(net, path, "flow") == [] and start_from(other, path, "flow") == []
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), other.parameters()))


def test_start__names_what_starts_from_chance(weights):
    path, _ = weights
    net = task().net()
    first = net.head.memory.units[0].update.weight.clone()
    anew = start_from(net, path, "flow")
    assert "head.occlusion.0.weight" in anew and "head.memory.units.0.update.weight" in anew
    assert not any(name.startswith("encoder.") for name in anew)
    assert torch.equal(net.head.memory.units[0].update.weight, first)


def test_start__refuses_other_tasks_and_other_networks(weights):
    path, _ = weights
    with pytest.raises(WeightsError, match="another task"):
        start_from(task().net(), path, "depth")
    with pytest.raises(WeightsError, match="none of its tensors"):
        start_from(torch.nn.Linear(3, 4), path, "flow")
