"""Files of generators that other people trained: what is read of them, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from densevision import api
from densevision.errors import WeightsError
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation
from densevision.tasks.translation.weights import published_name


def published() -> dict[str, Tensor]:
    """A small U-Net generator under the names of pytorch-CycleGAN-and-pix2pix."""
    torch.manual_seed(0)
    config = TranslationConfig.checked({"depth": 5, "width": 2})
    names = published_name(config)
    found = {}
    for name, tensor in Translation(config).build_model().state_dict().items():
        module, _, leaf = name.removeprefix("head.network.").rpartition(".")
        found[f"{names[module]}.{leaf}"] = tensor
    return found


def test_half_precision__answers_in_float32(tmp_path: Path):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in published().items()}
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in half.items()}
    image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    answers = []
    for name, state in (("half.pth", half), ("whole.pth", whole)):
        torch.save(state, tmp_path / name)
        answers.append(api.load(tmp_path / name, "translation").predict(image).image)
    assert np.array_equal(*answers)


STRANGE = {
    "module": (torch.nn.Conv2d(1, 1, 1), r"not a checkpoint that can be read: Weights only load failed\. Give"),
    "nothing": (b"", "not a checkpoint that can be read.*fetch it again"),
    "nested": ({"netG": {}, "epoch": 3}, r"is no state dict.*\['netG', 'epoch'\]"),
    "numbers": ({1: torch.zeros(1)}, "no generator of a known layout.*'1'"),
    "first of no axes": ({"model.model.0.weight": torch.zeros(())}, "no generator of a known layout"),
    "last of one axis": (published() | {"model.model.3.weight": torch.zeros(3)}, "of another shape"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strangers__are_told_in_one_line(kind: str, tmp_path: Path):
    content, message = STRANGE[kind]
    file = tmp_path / "latest_net_G.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(WeightsError, match=message) as caught:
        api.load(file, "translation")
    told = str(caught.value)
    assert "\n" not in told.strip() and "can still be loaded" not in told and ".." not in told
