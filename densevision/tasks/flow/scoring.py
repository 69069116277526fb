"""Judges flow files of any tool against files of truth. No torch here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from densevision.datasets.flow_layouts import Pair, companions
from densevision.datasets.flow_targets import read_truth
from densevision.io.flow import SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results import FlowField
from densevision.tasks.flow.metrics import FlowMetric

PARTS = ("clean", "final", "flow")
"""Folders of what Sintel and KITTI take as answers, which their truths do not have."""


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """The numbers of flow files against flow files: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs flow files with files of truth.

    What lies beside a file as its dataset has it is supported: Sintel's occlusions/ and invalid/ beside flow/, KITTI's
    flow_noc/ beside flow_occ/, TartanAir's masks.

    Args:
        truth: A file, or a folder with files below it; see `io.flow.read_flow` for the formats.
        predictions: A file, or a folder with files of the same names, but for the suffixes. Or the tree that Sintel
            takes, whose clean/ and final/ each answer the whole truth; or KITTI's, with flow/.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    parts = {name: predictions / name for name in PARTS if not (truth / name).is_dir()}
    answers = {f"{name}/": folder for name, folder in parts.items() if folder.is_dir()} or {"": predictions}
    scorings = {
        name: score_folders(truth, folder, SUFFIXES, (_read, _read), lambda *_: FlowMetric(), on_error)
        for name, folder in answers.items()
    }
    reads = {f"{name}{id}": partial(one.read, id) for name, one in scorings.items() for id in one.ids}
    named: dict[str, list[str]] = {}
    for name, one in scorings.items():
        for kind, ids in one.named.items():
            named.setdefault(kind, []).extend(f"{name}{id}" for id in ids)
    return Scoring(FlowMetric(), list(reads), lambda id: reads[id](), named, on_error)


def _read(path: Path) -> FlowField:
    return replace(read_truth(Pair(path, path, path, "", **companions(path))), source=None)
