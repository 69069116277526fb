"""`check_task` and `check_model` pass on sound tasks and models, and name the fault of broken ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.model import Model
from densevision.results import DepthMap
from densevision.sample import InputSpec
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth
from densevision.testing import CHECKS, MODEL_CHECKS, check_model, check_task

SETTINGS = {
    "data.path": "scenes:2:0",
    "data.size": 64,
    "backbone.name": "test_resnet",
    "model.width": 8,
    "model.finest_stride": 4,
}
NAMES = [check.__name__.removeprefix("check_") for check in CHECKS]


def run_check(name: str, task_class: type[Depth], config: DepthConfig | None = None) -> list[str]:
    config = config or DepthConfig.resolve(None, SETTINGS)
    return check_task(task_class, config, skip=[other for other in NAMES if other != name])


class UndocumentedConfig(DepthConfig):
    mystery: int = 0


class NotFinite(Depth):
    def compute_losses(self, *arguments: Any) -> dict[str, Tensor]:
        return {name: value * float("nan") for name, value in super().compute_losses(*arguments).items()}


class FrozenLoss(Depth):
    def compute_losses(self, model: Any, *arguments: Any) -> dict[str, Tensor]:
        losses = super().compute_losses(model, *arguments)
        return {name: value.detach() + next(model.parameters()).sum() * 0 for name, value in losses.items()}


class Unseeded(Depth):
    draws = 0

    def compute_losses(self, *arguments: Any) -> dict[str, Tensor]:
        Unseeded.draws += 1
        return {name: value + Unseeded.draws for name, value in super().compute_losses(*arguments).items()}


class WrongSize(Depth):
    def to_results(self, *arguments: Any) -> list[DepthMap]:
        return [replace(result, size=(1, 2)) for result in super().to_results(*arguments)]


class FloatDrawing(Depth):
    def draw(self, *arguments: Any) -> np.ndarray:
        return super().draw(*arguments).astype(np.float32)


class NotMirrored(Depth):
    def to_image_space(self, predictions: Any, view: Any, mirrored: bool = False) -> dict[str, Tensor]:
        return super().to_image_space(predictions, view, False)


class WrongInverse(Depth):
    def ideal_outputs(self, ground_truths: Any) -> dict[str, Tensor]:
        return {name: 1.5 * value + 1 for name, value in super().ideal_outputs(ground_truths).items()}


class WrongBest(Depth):
    best_possible_value = 0.5


SABOTAGES = {
    "finite_losses": NotFinite,
    "gradients": FrozenLoss,
    "same_seed": Unseeded,
    "odd_sizes": WrongSize,
    "drawing": FloatDrawing,
    "flips": NotMirrored,
    "decode_encode": WrongInverse,
    "metric_of_ground_truth": WrongBest,
    "score": NotFinite,  # its package has no module `scoring`
    "dataset_checks": NotFinite,  # nor `checks`
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_check_task__names_the_fault(name: str) -> None:
    with pytest.raises(AssertionError, match=f"depth: {name}: "):
        run_check(name, SABOTAGES[name])


def test_check_task__result_without_row_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DepthMap, "row_axes", {})
    with pytest.raises(AssertionError, match="tiles"):
        run_check("tiles", Depth)


def test_check_task__option_without_help() -> None:
    with pytest.raises(AssertionError, match="mystery"):
        run_check("help", Depth, UndocumentedConfig.resolve(None, SETTINGS))


@pytest.mark.parametrize("name", ["tiles", "flips", "score", "dataset_checks", "metric_of_ground_truth"])
def test_check_task__passes_a_sound_task(name: str) -> None:
    assert run_check(name, Depth) == [name]


class ToyDepth(Model):
    """A depth model of two convolutions.

    Args:
        width: Channels between them.
    """

    def __init__(self, width: int = 4):
        super().__init__()
        self.input_spec = {"image": InputSpec()}
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.layers(image).exp()}

    def loss(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        valid = targets["valid"]
        error = (outputs["depth"] - targets["depth"].where(valid, 0)).abs() * valid
        return {"l1": error.sum() / valid.sum().clamp_min(1)}


class SwitchingOutputs(ToyDepth):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        outputs = super().forward(image)
        return {**outputs, "extra": image} if self.training else outputs


class UnusedWeights(ToyDepth):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)


class RandomOutputs(ToyDepth):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.layers(image).exp() + torch.rand(1)}


class PostprocessWithWeights(ToyDepth):
    def postprocess(self, outputs: dict[str, Tensor], **thresholds: Any) -> dict[str, Tensor]:
        return {"depth": outputs["depth"] * self.layers[0].weight.mean()}


class DataDependent(ToyDepth):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return super().forward(image if image.mean() > 0.1 else 1 - image)


MODEL_FAULTS = {
    "same_outputs": SwitchingOutputs,
    "gradients": UnusedWeights,
    "deterministic": RandomOutputs,
    "postprocess": PostprocessWithWeights,
    "export": DataDependent,
}


def test_check_model__passes_a_sound_class_and_a_name() -> None:
    settings = {"data.path": "scenes:2:0", "data.size": 64}
    names = [check.__name__.removeprefix("check_") for check in MODEL_CHECKS]
    assert check_model(ToyDepth, "depth", settings, width=2) == names
    small = {"encoder": "test_resnet", "width": 8, "finest_stride": 4}
    assert check_model("depth_unet", settings=settings, skip=("export",), **small) == names[:-1]


@pytest.mark.parametrize("name", MODEL_FAULTS)
def test_check_model__names_the_fault(name: str) -> None:
    skip = [check.__name__.removeprefix("check_") for check in MODEL_CHECKS]
    skip.remove(name)
    with pytest.raises(AssertionError, match=name):
        check_model(MODEL_FAULTS[name], "depth", {"data.path": "scenes:2:0", "data.size": 64}, skip)


def test_check_model__unknown_name_or_missing_task() -> None:
    for arguments in (("no_such_model",), (ToyDepth,)):
        with pytest.raises(UsageError):
            check_model(*arguments)
