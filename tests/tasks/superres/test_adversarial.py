"""Training with a discriminator: when it joins, how it judges, and that kills and processes change nothing."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from densevision import api
from densevision.io.image import write_image
from densevision.tasks.superres.training_modules import UNetDiscriminator
from densevision.training.checkpointer import ValidationCallback

RUN = {
    "arch": "rrdb",
    "width": 8,
    "depth": 1,
    "data.crop": 16,
    "loss.adversarial.weight": 0.1,
    "loss.adversarial.width": 4,
    "train.epochs": 3,
    "train.batch": 4,
    "train.precision": "float32",
}
"""A small RRDB and a small U-Net that judges it."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images of noise, and two to validate."""
    rng = np.random.default_rng(0)
    for number in range(10):
        split = "train" if number < 8 else "val"
        write_image(tmp_path / "data" / split / f"{number}.png", rng.integers(0, 256, (36, 36, 3), np.uint8))
    return tmp_path / "data"


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").open()))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last.safetensors")


def test_losses__the_network_learns_alone_first(images: Path, tmp_path: Path):
    settings = {**RUN, "train.epochs": 2, "loss.generator_warmup_epochs": 1}
    first, second = rows(api.train("superres", str(images), set=settings, out=tmp_path / "run"))
    assert not first.get("train/adversarial") and not first.get("train/discriminator")
    assert float(second["train/adversarial"]) > 0 and float(second["train/discriminator"]) > 0


@pytest.mark.parametrize("killed_after", [0, 1])
def test_resume__killed_at_any_epoch_continues_as_if_never_stopped(
    killed_after: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = {**RUN, "train.ema_decay": 0.9, "loss.generator_warmup_epochs": 1}
    whole = api.train("superres", str(images), set=settings, out=tmp_path / "whole")
    kept = ValidationCallback.on_train_epoch_end

    def killed(self, trainer, module):
        kept(self, trainer, module)
        if trainer.current_epoch == killed_after:
            raise KeyError("killed")

    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(ValidationCallback, "on_train_epoch_end", killed)
        api.train("superres", str(images), set=settings, out=tmp_path / "cut")
    cut = api.train(resume=tmp_path / "cut")
    assert all(torch.equal(tensor, weights(cut)[name]) for name, tensor in weights(whole).items())
    optimisers = [torch.load(run / "last.ckpt", weights_only=True)["optimizer_states"] for run in (whole, cut)]
    assert len(optimisers[0]) == 2
    for one, other in zip(*optimisers):
        assert all(torch.equal(one["state"][key]["exp_avg"], other["state"][key]["exp_avg"]) for key in one["state"])


@pytest.mark.parametrize("kind", ["relativistic", pytest.param("vanilla", marks=pytest.mark.slow)])
def test_train__two_processes_learn_what_one_learns(kind: str, images: Path, tmp_path: Path):
    """Plain SGD: what rounding differs by stays what it is, where Adam would divide it by itself."""
    settings = {**RUN, "train.epochs": 2, "loss.adversarial.kind": kind, "train.optimizer": "sgd", "train.lr": 0.02}
    one = api.train("superres", str(images), set=settings, out=tmp_path / "one")
    shared = {**settings, "train.devices": 2, "train.batch": 2}
    options = [part for name, value in shared.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "densevision", "superres", "train", "--data", str(images), "--quiet", *options]
    subprocess.run([*command, "--out", str(tmp_path / "two")], check=True, capture_output=True, timeout=300)
    alone, together = weights(one), weights(tmp_path / "two")
    assert all(torch.allclose(alone[name], together[name], atol=1e-5) for name in alone)
    for single, double in zip(rows(one), rows(tmp_path / "two"), strict=True):
        assert float(single["train/discriminator"]) == pytest.approx(float(double["train/discriminator"]), abs=1e-4)


def test_discriminator__every_convolution_but_the_ends_has_a_spectral_norm_of_one():
    torch.manual_seed(0)
    training_modules = UNetDiscriminator(3, 4).train()
    for _ in range(60):  # the norm is found by one power iteration a pass
        training_modules(torch.rand(1, 3, 16, 16))
    training_modules.eval()
    normed = [module for module in training_modules.modules() if isinstance(module, nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) for conv in normed]
    assert norms[1:-1] == pytest.approx([1.0] * (len(norms) - 2), abs=0.02)


@pytest.mark.parametrize("size", [(16, 16), (37, 50)])
def test_discriminator__judges_each_pixel(size: tuple[int, int]):
    assert UNetDiscriminator(3, 4)(torch.rand(2, 3, *size)).shape == (2, 1, *size)
