"""What a file or a run folder is: weights, an exported model, a checkpoint of another project, or a run."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

from densevision.api import read_card
from densevision.errors import UsageError
from densevision.io.weights import load_shapes
from densevision.published_weights import list_weights, resolve_weights
from densevision.run_folder import RunFolder
from densevision.tasks import TASKS, load_config, load_task
from densevision.yaml_files import read_yaml

__all__ = ["info"]

EXPORT_SUFFIXES = (".onnx", ".xml", ".pt2")
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")


def info(file: str | os.PathLike[str] | None = None, task: str | None = None) -> dict[str, Any]:
    """Describes weights, an exported model, a checkpoint of another project, or a run folder.

    Args:
        file: The file or folder, or a name of weights; the bundled demo weights of the task by default.
        task: Refuse anything of another task.

    Returns:
        Plain data. "kind" is "weights", "export", "checkpoint" or "run". Weights and exports have the fields of their
        card (`densevision.io.weights.Card`) and the number of "parameters"; runs have "epochs", "finished_epochs",
        "best" and "weights"; checkpoints have "published": the names under which this very file is published.

    Raises:
        UsageError: It is none of these.
        WeightsError: The file is missing, damaged, or of another task.
        DataError: The run folder is damaged.
    """
    path = None if file is None else Path(file)
    if path is not None and path.is_dir():
        if not RunFolder(path).config.exists():
            hint = "For datasets: densevision TASK check FOLDER."
            raise UsageError("no run in this folder: config.yaml is missing", file=file, hint=hint)
        return _describe_run(path, task)
    suffix = "" if path is None or not path.is_file() else path.suffix.lower()
    if path is not None and suffix in CHECKPOINT_SUFFIXES:
        return _describe_checkpoint(path)
    if suffix not in ("", ".safetensors", *EXPORT_SUFFIXES):
        hint = "For datasets: densevision TASK check FOLDER."
        raise UsageError("neither weights, an exported model nor a run folder", file=file, hint=hint)
    if path is not None and suffix in EXPORT_SUFFIXES:
        return _describe_export(path, task)
    return _describe_weights(file, task)


def _describe_export(path: Path, task: str | None) -> dict[str, Any]:
    from densevision.exporting.exported_predictor import load_exported

    predictor = load_exported(path, task)
    quantization = predictor.metadata.quantization
    details = {} if quantization is None else {"quantization": quantization}
    return {"kind": "export", "megabytes": _measure_megabytes(path), **details, **predictor.card.to_dict()}


def _describe_weights(weights: str | os.PathLike[str] | None, task: str | None) -> dict[str, Any]:
    card = read_card(weights, task)
    file = resolve_weights(weights, task)
    parameters = sum(math.prod(shape) for shape in load_shapes(file).values())
    return {"kind": "weights", "megabytes": _measure_megabytes(file), "parameters": parameters, **card.to_dict()}


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    """Compares the hash of the file with those of all published weights; nothing in it is unpickled."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    published = list_weights().values()
    names = [
        weights.name
        for weights in published
        if weights.sha256 and digest.hexdigest().startswith(weights.sha256.lower())
    ]
    return {
        "kind": "checkpoint",
        "megabytes": _measure_megabytes(path),
        "sha256": digest.hexdigest(),
        "published": names,
    }


def _describe_run(path: Path, task: str | None) -> dict[str, Any]:
    folder = RunFolder.open(path)
    name = str(read_yaml(folder.config).get("task"))
    if name not in TASKS or task not in (None, name):
        raise UsageError(f"is not a run of {task or 'any task'}", file=folder.config, field="task", value=name)
    config = load_config(name).resolve(folder.config)
    metric, direction = load_task(name)(config).monitor
    rows = folder.read_rows()
    values = [(float(row[metric]), int(row["epoch"])) for row in rows if row.get(metric) not in (None, "", "nan")]
    pick = max if direction == "max" else min
    best = pick(values, key=lambda pair: pair[0]) if values else None
    weights = next((str(file) for file in (folder.best, folder.last) if file.exists()), None)
    return {
        "kind": "run",
        "task": name,
        "arch": config.arch,
        "data": config.dataset,
        "epochs": config.train.epochs,
        "finished_epochs": len(rows),
        "best": None if best is None else {"metric": metric, "value": best[0], "epoch": best[1]},
        "weights": weights,
    }


def _measure_megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)
