"""A run folder, runs/<task>/<name>/: all files of a training run, each written atomically."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import write_text
from densevision.run_config import TaskConfig

__all__ = ["RunFolder", "collect_versions"]

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning", "numpy", "opencv-python-headless",
    "pillow", "hotcoco", "pycocotools", "safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row per epoch, counted from 1."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "last.ckpt"

    @property
    def report(self) -> Path:
        """The report of the last validation."""
        return self.path / "report.json"

    @property
    def plots(self) -> Path:
        """Folder of plots."""
        return self.path / "plots"

    @property
    def batches(self) -> Path:
        """Folder of the first training batches, drawn with their labels."""
        return self.path / "batches"

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, task: str) -> RunFolder:
        """Names the folder of a new run; numbered under runs/<task>/ without a path.

        Raises:
            UsageError: The folder already holds a run.
        """
        if path is None:
            parent = Path("runs") / task
            numbers = [int(run.name) for run in parent.glob("[0-9]*") if run.name.isdigit()]
            path = parent / str(max(numbers, default=0) + 1)
        folder = cls(Path(path))
        if folder.checkpoint.exists() or folder.metrics.exists():
            hint = f"Continue it with --resume {folder.path}, or choose another --out."
            raise UsageError("this folder already holds a run", file=folder.path, hint=hint)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Opens the folder of an existing run.

        Raises:
            DataError: The folder holds no run.
        """
        folder = cls(Path(path))
        if not folder.config.exists():
            hint = "Pass the folder that was given to --out."
            raise DataError("no run in this folder: config.yaml is missing", file=path, hint=hint)
        return folder

    def write_config(self, config: TaskConfig) -> None:
        """Writes the config, and the versions of the installed packages."""
        write_text(self.config, config.to_yaml())
        write_text(self.path / "versions.json", json.dumps(collect_versions(), indent=1) + "\n")

    def read_rows(self) -> list[dict[str, str]]:
        """Reads the rows of metrics.csv."""
        if not self.metrics.exists():
            return []
        with open(self.metrics, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def add_row(self, row: Mapping[str, float]) -> None:
        """Adds the row of an epoch, and drops rows of this or later epochs that a killed run may have left."""
        rows = [other for other in self.read_rows() if int(other["epoch"]) < row["epoch"]]
        table = [*rows, {name: _format_number(value) for name, value in row.items()}]
        columns = list(dict.fromkeys(name for line in table for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_text(self.metrics, text.getvalue())


def collect_versions() -> dict[str, str]:
    """Collects the versions of everything that affects the numbers."""
    from densevision.version import __version__

    versions = {"densevision": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _format_number(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
