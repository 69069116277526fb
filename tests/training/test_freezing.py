"""Frozen parts, frozen statistics of batch norms, and the learning rates of a backbone's layers."""

from __future__ import annotations

import pytest
import timm.optim
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.models import create_model
from densevision.run_config import TrainConfig
from densevision.sample import Batch
from densevision.training.freezing import freeze_parts, set_training_mode
from densevision.training.loop import TrainingLoop
from densevision.training.optimizer import build_optimizer
from densevision.training.progress import TrainingProgress


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


class Regression:
    """A task that pulls the network's outputs to 1."""

    optimizer_names, generator_warmup_epochs = ("net",), 0

    def build_training_modules(self) -> nn.Module | None:
        return None

    def compute_losses(self, model, batch, training_modules, optimizer_name):
        return {"square": (model(batch.inputs["image"]) - 1).square().mean()}

    def backward(self, model, losses, batches, backward, is_measured):
        backward()
        return {}


def train(**settings) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts before and after two steps."""
    torch.manual_seed(0)
    model = Network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    config = TrainConfig.from_dict({"epochs": 2, "lr": 0.1, "warmup_epochs": 0.0, **settings})
    batch = Batch({"image": torch.rand(2, 3, 8, 8)}, [], {}, [None] * 2, ["a", "b"])
    loop = TrainingLoop(fabric, Regression(), model, config, 1, False)
    loop.run([batch], lambda row: False, TrainingProgress(2, quiet=True))
    return before, loop.model.state_dict()


def changed(**settings) -> set[str]:
    before, after = train(**settings)
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_freeze__part_keeps_weights_and_statistics() -> None:
    assert changed() == set(Network().state_dict())
    names = {name for name in Network().state_dict() if name.startswith("head.")}
    assert changed(freeze=["encoder"]) == names
    assert changed(freeze=["encoder", "head.0.weight"]) == names - {"head.0.weight"}


def test_freeze_norm_statistics__scale_and_bias_are_trained() -> None:
    statistics = {name for name in Network().state_dict() if "running_" in name or "num_batches" in name}
    assert changed(freeze_norm_statistics=True) == set(Network().state_dict()) - statistics


def test_set_training_mode__dropout_of_frozen_parts_is_off() -> None:
    model = Network()
    set_training_mode(model, ["encoder"])
    assert not model.encoder[2].training and model.head[1].training


@pytest.mark.parametrize(("names", "value"), [(["encodr"], "encodr"), ([""], ""), (["encoder", "head"], None)])
def test_freeze_parts__unknown_parts_and_everything_are_refused(names: list[str], value: str | None) -> None:
    with pytest.raises(UsageError) as error:
        freeze_parts(Network(), names)
    assert error.value.field == "train.freeze" and (value is None or error.value.value == value)


def test_layer_decay__as_timm_computes_it() -> None:
    model = create_model("yolo_n", num_classes=2, encoder="resnet10t")
    config = TrainConfig(lr=1e-2, backbone_lr_scale=0.5, layer_decay=0.5)
    rates = _rates(model, config)
    network = timm.create_model("resnet10t", num_classes=0, global_pool="")
    groups = timm.optim.param_groups_layer_decay(network, layer_decay=0.5)
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    deepest = max(scales.values())
    for name, parameter in network.named_parameters():
        expected = 1e-2 * 0.5 * scales[id(parameter)] / deepest
        assert rates[f"encoder.network.{name}"] == pytest.approx(expected), name
    assert {rate for name, rate in rates.items() if not name.startswith("encoder.")} == {1e-2}


def test_layer_decay__stages_of_a_network_that_is_not_timms() -> None:
    rates = _rates(create_model("yolox_nano", num_classes=2), TrainConfig(lr=1.0, layer_decay=0.5))
    stages = ("stem", "dark2", "dark3", "dark4", "dark5")
    for depth, stage in enumerate(stages):
        found = {rate for name, rate in rates.items() if name.startswith(f"backbone.{stage}.")}
        assert found == {0.5 ** (len(stages) - 1 - depth)}, stage


def test_layer_decay__needs_a_backbone() -> None:
    with pytest.raises(UsageError) as error:
        build_optimizer(create_model("srcnn"), TrainConfig(layer_decay=0.5))
    assert error.value.field == "train.layer_decay"


@pytest.mark.parametrize(
    ("arch", "arguments", "backbone"),
    [
        ("yolo_n", {"encoder": "resnet10t"}, "encoder."),
        ("yolox_nano", {}, "backbone."),
        ("dfine_n", {}, "backbone."),
        ("eomt_small", {"encoder": "vit_tiny_patch16_224", "image_size": 64}, "network.encoder."),
    ],
)
def test_backbone_lr_scale__covers_the_backbone_and_nothing_else(arch: str, arguments: dict, backbone: str) -> None:
    model = create_model(arch, num_classes=2, **arguments)
    rates = _rates(model, TrainConfig(lr=1.0, backbone_lr_scale=0.1))
    assert rates
    for name, rate in rates.items():
        assert rate == pytest.approx(0.1 if name.startswith(backbone) else 1.0), name


def _rates(model: nn.Module, config: TrainConfig) -> dict[str, float]:
    optimizer = build_optimizer(model, config)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: rates[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in rates}
