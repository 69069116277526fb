"""The metrics of several tasks from prediction files of any tool. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.metrics.scoring import OnError, Scoring
from densevision.results import JointResult
from densevision.tasks import load_files, load_score
from densevision.tasks.joint.names import find_task_name

__all__ = ["open_files", "score"]


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """The metrics of every task, as "task/metric": metrics, protocol, counts, named, tables.

    Args:
        truth: A folder with a file or folder for each task, named after it: `detection.json`, `depth/`.
        predictions: The same of the predictions.
        on_error: As the tasks take it.

    Raises:
        DataError: The folders do not hold the same tasks, or a file cannot be read or compared.
        UsageError: A task does not support `on_error`.
    """
    joined: dict[str, Any] = {"metrics": {}, "protocol": {}, "counts": {"images": 0}, "named": {}, "tables": {}}
    for name, task, truth_files, prediction_files in _list_parts(truth, predictions):
        report = load_score(task)(truth_files, prediction_files, on_error)
        joined["metrics"] |= {f"{name}/{metric}": value for metric, value in report["metrics"].items()}
        joined["protocol"][name] = report["protocol"]
        joined["tables"] |= {f"{name}: {title}": table for title, table in report["tables"].items()}
        joined["counts"]["images"] += report["counts"]["images"]
        for kind, count in report["counts"].items():
            if kind != "images":
                key = kind if kind in report["named"] else f"{name}: {kind}"
                joined["counts"][key] = joined["counts"].get(key, 0) + count
        for kind, names in report["named"].items():
            joined["named"].setdefault(kind, []).extend(f"{name}/{each}" for each in names)
    return joined


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """The same files as records, image by image; an image has the name of its task in front."""
    from densevision.tasks.joint.metrics import JointMetric

    parts = {
        name: load_files(task)(truth_files, prediction_files, on_error)
        for name, task, truth_files, prediction_files in _list_parts(truth, predictions)
    }

    def read(image_id: str) -> tuple[JointResult, JointResult]:
        name, _, own_id = image_id.partition("/")
        first, second = (
            JointResult(size=each.size, results={name: each})
            for each in parts[name].read(_restore_id(parts[name], own_id))
        )
        return first, second

    ids = [f"{name}/{image_id}" for name, part in parts.items() for image_id in part.ids]
    metric = JointMetric({name: part.metric for name, part in parts.items()}, {})
    return Scoring(metric, ids, read, make_report=partial(score, truth, predictions, on_error))


def _restore_id(part: Scoring, text: str) -> Any:
    """The id of an image, which may be a number."""
    return next((image_id for image_id in part.ids if str(image_id) == text), text)


def _list_parts(truth: Path, predictions: Path) -> Iterator[tuple[str, str, Path, Path]]:
    """Name, task, ground truth and predictions of every task."""
    target_records, others = (_find_files(folder) for folder in (truth, predictions))
    for folder, files, names in ((predictions, others, target_records), (truth, target_records, others)):
        if missing := sorted(names.keys() - files.keys()):
            raise DataError("lacks a task that the other folder has", file=folder, value=missing)
    for name, file in target_records.items():
        task = find_task_name(name)
        assert task is not None  # of `_find_files`
        yield name, task, file, others[name]


def _find_files(folder: Path) -> dict[str, Path]:
    """Name of the task -> its file or folder."""
    hint = "Give two folders, each with a file or folder for every task: detection.json, depth/."
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder, hint=hint)
    files = {path.stem: path for path in sorted(folder.iterdir()) if find_task_name(path.stem) is not None}
    if not files:
        raise DataError("nothing in it is named after a task", file=folder, hint=hint)
    return files
