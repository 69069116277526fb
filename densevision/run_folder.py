"""runs/<task>/<name>/: everything a run leaves behind, each file whole."""

from __future__ import annotations

import csv
import io
import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import write_text
from densevision.run_config import TaskConfig

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning", "albumentations", "numpy",
    "opencv-python-headless", "pillow", "hotcoco", "pycocotools", "safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
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
        """All that resume needs."""
        return self.path / "last.ckpt"

    @property
    def plots(self) -> Path:
        """Folder of the plots."""
        return self.path / "plots"

    @property
    def batches(self) -> Path:
        """Folder of the first training batches, drawn with their labels."""
        return self.path / "batches"

    @classmethod
    def fresh(cls, path: str | Path | None, task: str) -> RunFolder:
        """A folder for a new run; numbered under runs/<task>/ when no path is given.

        Raises:
            UsageError: A run is already there.
        """
        if path is None:
            parent = Path("runs") / task
            numbers = [int(run.name) for run in parent.glob("[0-9]*") if run.name.isdigit()]
            path = parent / str(max(numbers, default=0) + 1)
        folder = cls(Path(path))
        if folder.checkpoint.exists() or folder.metrics.exists():
            hint = f"Continue it with --resume {folder.path}, or choose another --out."
            raise UsageError("a run is already in this folder", file=folder.path, hint=hint)
        return folder

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            DataError: There is no run.
        """
        folder = cls(Path(path))
        if not folder.config.exists():
            raise DataError(
                "no run in this folder: config.yaml is missing", file=path, hint="Name the folder given to --out."
            )
        return folder

    def start(self, config: TaskConfig) -> None:
        """Writes the config and the versions."""
        write_text(self.config, config.to_yaml())
        write_text(self.path / "versions.json", json.dumps(versions(), indent=1) + "\n")

    def rows(self) -> list[dict[str, str]]:
        """The epochs so far."""
        if not self.metrics.exists():
            return []
        with open(self.metrics, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def add_row(self, row: dict[str, float]) -> None:
        """Adds an epoch, and drops rows of the same or later epochs that a killed run may have left."""
        rows = [old for old in self.rows() if int(old["epoch"]) < row["epoch"]]
        table = [*rows, {name: _number(value) for name, value in row.items()}]
        columns = list(dict.fromkeys(name for line in table for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_text(self.metrics, text.getvalue())


def versions() -> dict[str, str]:
    """Versions of everything that shapes the numbers."""
    from densevision.version import __version__

    found = {"densevision": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _number(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
