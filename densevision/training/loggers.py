"""Loggers besides metrics.csv, by name, through Lightning."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from densevision.errors import UsageError

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}
"""Which packages can serve a logger; one is enough."""


def check_loggers(names: tuple[str, ...]) -> None:
    """Finds out before a run starts whether its loggers can be had.

    Raises:
        UsageError: A logger's package is not installed.
    """
    for name in names:
        if not any(find_spec(package) for package in PACKAGES[name]):
            raise UsageError(
                "the logger's package is not installed",
                field="train.loggers",
                value=name,
                hint=f"pip install {PACKAGES[name][0]}, or leave the logger out: metrics.csv is always written.",
            )


def make_loggers(names: tuple[str, ...], folder: Path) -> list[Any]:
    """Lightning's loggers; what they keep on disk lies in the run folder."""
    from lightning.pytorch import loggers

    makers = {
        "tensorboard": lambda: loggers.TensorBoardLogger(folder, name="", version="tensorboard"),
        "wandb": lambda: loggers.WandbLogger(name=folder.name, save_dir=folder),
        "mlflow": lambda: loggers.MLFlowLogger(run_name=folder.name, tracking_uri=f"file:{folder / 'mlflow'}"),
    }
    return [makers[name]() for name in names]
