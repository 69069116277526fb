"""Loggers besides metrics.csv."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from densevision.errors import UsageError

__all__ = ["build_loggers", "check_loggers"]

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}
"""Logger -> packages that provide it; one is enough."""


def check_loggers(names: Sequence[str]) -> None:
    """Checks before a run that its loggers are installed.

    Raises:
        UsageError: The package of a logger is not installed.
    """
    for name in names:
        if not any(find_spec(package) for package in PACKAGES[name]):
            raise UsageError(
                "the package of the logger is not installed",
                field="train.loggers",
                value=name,
                hint=f"pip install {PACKAGES[name][0]}, or leave the logger out: metrics.csv is always written.",
            )


def build_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """Builds Lightning's loggers; their files are written into the run folder."""
    if not names:
        return []
    from lightning.pytorch import loggers

    builders = {
        "tensorboard": lambda: loggers.TensorBoardLogger(folder, name="", version="tensorboard"),
        "wandb": lambda: loggers.WandbLogger(name=folder.name, save_dir=folder),
        "mlflow": lambda: loggers.MLFlowLogger(run_name=folder.name, tracking_uri=f"file:{folder / 'mlflow'}"),
    }
    return [builders[name]() for name in names]
