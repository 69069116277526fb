"""Generators of pytorch-CycleGAN-and-pix2pix: wrappers, precision, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from densevision import api
from densevision.errors import WeightsError
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation
from densevision.tasks.translation.weights import get_published_names


def make_published() -> dict[str, Tensor]:
    """A small U-Net generator under its published names."""
    torch.manual_seed(0)
    config = TranslationConfig.from_dict({"model": {"depth": 5, "width": 2}})
    names = get_published_names(config)
    published = {}
    for name, tensor in Translation(config).build_model().state_dict().items():
        module, _, leaf = name.rpartition(".")
        published[f"{names[module]}.{leaf}"] = tensor
    return published


def wrap(state: dict[str, Tensor]) -> dict[str, Any]:
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "plain": state, "parallel": parallel, "model": {"model": state, "epoch": 1}, "single key": {"netG": state},
        "state_dict": {"state_dict": state, "epoch": 1}, "params_ema": {"params_ema": parallel},
    }  # fmt: skip


@pytest.mark.parametrize("wrapper", wrap({}))
def test_open__every_wrapper(wrapper: str, tmp_path: Path):
    published = make_published()
    torch.save(wrap(published)[wrapper], tmp_path / "latest_net_G.pth")
    predictor = api.load(tmp_path / "latest_net_G.pth", "translation")
    torch.testing.assert_close(
        predictor.model.state_dict()["downs.0.convolution.weight"], published["model.model.0.weight"]
    )


def test_open__safetensors_without_a_card(tmp_path: Path):
    save_file({name: tensor.contiguous() for name, tensor in make_published().items()}, tmp_path / "net.safetensors")
    predictor = api.load(tmp_path / "net.safetensors", "translation")
    assert predictor.task.config.model == {"depth": 5, "width": 2}


def test_open__half_precision_becomes_float32(tmp_path: Path):
    published = make_published()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in published.items()}
    single = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in half.items()}
    image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    results = []
    for name, state in (("half.pth", half), ("single.pth", single)):
        torch.save(state, tmp_path / name)
        results.append(api.load(tmp_path / name, "translation").predict(image).image)
    assert np.array_equal(*results)


JUNK: dict[str, Any] = {
    "module": nn.Conv2d(1, 1, 1),
    "empty file": b"",
    "empty dict": {"netG": {}, "epoch": 3},
    "numbers as names": {1: torch.zeros(1)},
    "first tensor without axes": {"model.model.0.weight": torch.zeros(())},
    "last tensor of one axis": make_published() | {"model.model.3.weight": torch.zeros(3)},
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk__is_an_error_of_one_line(kind: str, tmp_path: Path):
    file = tmp_path / "latest_net_G.pth"
    file.write_bytes(JUNK[kind]) if isinstance(JUNK[kind], bytes) else torch.save(JUNK[kind], file)
    with pytest.raises(WeightsError) as caught:
        api.load(file, "translation")
    message = str(caught.value)
    assert "\n" not in message.strip() and "weights_only" not in message and ".." not in message
