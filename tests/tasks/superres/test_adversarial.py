"""Training with a discriminator: warm-up, resuming, several processes."""

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
from densevision.training.validation import EpochEnd

RUN = {
    "arch": "rrdb",
    "scale": 2,
    "model.width": 8,
    "model.depth": 1,
    "data.crop": 16,
    "loss.adversarial.weight": 0.1,
    "loss.adversarial.width": 4,
    "train.epochs": 3,
    "train.batch": 4,
    "train.precision": "float32",
}
"""A small RRDB and a small U-Net discriminator."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of noise, and two to validate."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for number in range(10):
        split = "train" if number < 8 else "val"
        write_image(folder / split / f"{number}.png", rng.integers(0, 256, (36, 36, 3), np.uint8))
    return folder


RESUMED = {**RUN, "train.ema_decay": 0.9, "loss.generator_warmup_epochs": 1}


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return api.train("superres", str(images), overrides=RESUMED, out=out, quiet=True)


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").open()))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last.safetensors")


def test_warmup__discriminator_starts_later(images: Path, tmp_path: Path):
    settings = {**RUN, "train.epochs": 2, "loss.generator_warmup_epochs": 1}
    first, second = rows(api.train("superres", str(images), overrides=settings, out=tmp_path / "run"))
    assert not first.get("train/adversarial") and not first.get("train/discriminator")
    assert float(second["train/adversarial"]) > 0 and float(second["train/discriminator"]) > 0


@pytest.mark.parametrize("interrupted_after", [1, 2])
def test_resume__equals_an_uninterrupted_run(
    interrupted_after: int, images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    end_epoch = EpochEnd.__call__

    def end_and_interrupt(self: EpochEnd, row: dict[str, float]) -> bool:
        is_stopped = end_epoch(self, row)
        if row["epoch"] == interrupted_after:
            raise KeyError("interrupted")
        return is_stopped

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(EpochEnd, "__call__", end_and_interrupt)
        api.train("superres", str(images), overrides=RESUMED, out=tmp_path / "cut", quiet=True)
    cut = api.train(resume=tmp_path / "cut", quiet=True)
    assert all(torch.equal(tensor, weights(cut)[name]) for name, tensor in weights(whole).items())
    first, second = (torch.load(run / "last.ckpt", weights_only=True) for run in (whole, cut))
    for name in ("optimizer_net", "optimizer_discriminator"):
        for key, state in first[name]["state"].items():
            assert torch.equal(state["exp_avg"], second[name]["state"][key]["exp_avg"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["relativistic", "vanilla"])
def test_train__two_processes_equal_one(kind: str, images: Path, tmp_path: Path):
    """SGD keeps rounding differences small, where Adam would amplify them."""
    settings = {**RUN, "train.epochs": 2, "loss.adversarial.kind": kind, "train.optimizer": "sgd", "train.lr": 0.02}
    one = api.train("superres", str(images), overrides=settings, out=tmp_path / "one")
    shared = {**settings, "train.devices": 2, "train.batch": 2}
    options = [part for name, value in shared.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "densevision", "superres", "train", "--data", str(images), "--quiet", *options]
    subprocess.run([*command, "--out", str(tmp_path / "two")], check=True, capture_output=True, timeout=300)
    single, double = weights(one), weights(tmp_path / "two")
    assert all(torch.allclose(single[name], double[name], atol=1e-5) for name in single)
    for first, second in zip(rows(one), rows(tmp_path / "two"), strict=True):
        assert float(first["train/discriminator"]) == pytest.approx(float(second["train/discriminator"]), abs=1e-4)


def test_discriminator__inner_convolutions_have_spectral_norm_one():
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(3, 4).train()
    for _ in range(60):  # one power iteration per forward pass
        discriminator(torch.rand(1, 3, 16, 16))
    discriminator.eval()
    normed = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) for conv in normed]
    assert norms[1:-1] == pytest.approx([1.0] * (len(norms) - 2), abs=0.02)


@pytest.mark.parametrize("size", [(16, 16), (37, 50)])
def test_discriminator__logit_per_pixel(size: tuple[int, int]):
    assert UNetDiscriminator(3, 4)(torch.rand(2, 3, *size)).shape == (2, 1, *size)
