"""Scores flow files of any tool against ground-truth files. No torch here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from densevision.datasets.flow_layouts import FlowPair, find_companion_files
from densevision.datasets.flow_targets import read_flow_field
from densevision.io.flow import SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results import FlowField
from densevision.tasks.flow.metrics import FlowMetric

__all__ = ["open_files"]

SUBMISSION_FOLDERS = ("clean", "final", "flow")
"""Folders of submissions to Sintel and KITTI, which their ground truth does not have."""


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs prediction files with ground-truth files.

    Companion files are used as datasets provide them: Sintel's occlusions/ and invalid/ beside flow/, KITTI's flow_noc/
    beside flow_occ/, TartanAir's masks.

    Args:
        truth: A file, or a folder with files below it; see `io.flow.read_flow` for the formats.
        predictions: A file, or a folder with files of the same names, apart from suffixes. Or a submission to Sintel,
            whose clean/ and final/ are each compared with all ground truth; or one to KITTI, with flow/.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    submission = {name: predictions / name for name in SUBMISSION_FOLDERS if not (truth / name).is_dir()}
    folders = {f"{name}/": folder for name, folder in submission.items() if folder.is_dir()} or {"": predictions}
    scorings = {
        prefix: score_folders(truth, folder, SUFFIXES, (_read, _read), lambda *_: FlowMetric(), on_error)
        for prefix, folder in folders.items()
    }
    readers = {
        f"{prefix}{image_id}": partial(scoring.read, image_id)
        for prefix, scoring in scorings.items()
        for image_id in scoring.ids
    }
    named: dict[str, list[str]] = {}
    for prefix, scoring in scorings.items():
        for kind, ids in scoring.named.items():
            named.setdefault(kind, []).extend(f"{prefix}{image_id}" for image_id in ids)
    return Scoring(FlowMetric(), list(readers), lambda image_id: readers[image_id](), named, on_error)


def _read(path: Path) -> FlowField:
    return replace(read_flow_field(FlowPair(path, path, path, "", **find_companion_files(path))), source=None)
