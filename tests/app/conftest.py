"""A run folder to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

import densevision


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of a tiny network for super-resolution, whose images have metrics of their own."""
    overrides = {
        "arch": "edsr_baseline", "model.width": 4, "model.depth": 1, "scale": 2, "data.crop": 32, "train.epochs": 2,
        "train.batch": 4, "data.workers": 0, "train.device": "cpu",
    }  # fmt: skip
    out = tmp_path_factory.mktemp("runs") / "one"
    return densevision.train("superres", "scenes:8:1", overrides=overrides, out=out, quiet=True)
