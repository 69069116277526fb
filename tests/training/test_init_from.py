"""Training that starts from weights: what fits is taken, the rest is named."""

from __future__ import annotations

import pytest
import torch

from densevision.errors import WeightsError
from densevision.inference.predictor import TorchModel, start_from
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.task import Semantic
from densevision.training.train import card_of


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


def test_start__takes_the_backbone_of_another_task(tmp_path):
    torch.manual_seed(0)
    settings = {"backbone": {"name": "mobilenetv2_050"}}
    donor = Depth(DepthConfig.checked(settings))
    before = donor.net()
    TorchModel(donor, before, card_of(donor.config, 0)).save(tmp_path / "depth.safetensors")
    net = Semantic(SemanticConfig.checked({**settings, "arch": "fcn32s", "classes": ["a", "b"]})).net()
    head = {name: tensor.clone() for name, tensor in net.head.state_dict().items()}
    anew = start_from(net, tmp_path / "depth.safetensors", "semantic")
    assert anew == [f"head.{name}" for name in head]
    given = before.encoder.state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in net.encoder.state_dict().items())
    assert all(torch.equal(tensor, head[name]) for name, tensor in net.head.state_dict().items())


def test_start__refuses_other_networks(weights):
    path, _ = weights
    with pytest.raises(WeightsError, match="none of its tensors"):
        start_from(torch.nn.Linear(3, 4), path, "flow")
    with pytest.raises(WeightsError, match="none of its tensors"):
        start_from(task(occlusion=False).net().head, path, "depth")
