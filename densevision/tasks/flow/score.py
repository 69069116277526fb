"""Judges flow files of any tool against files of truth. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.io.flow import SUFFIXES, read_flow
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results import FlowField
from densevision.tasks.flow.metric import FlowMetric


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """The numbers of flow files against flow files: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs flow files with files of truth.

    Args:
        truth: A file, or a folder with files below it; see `io.flow.read_flow` for the formats.
        predictions: A file, or a folder with files of the same names, but for the suffixes: also the trees that Sintel
            and KITTI take.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    return score_folders(truth, predictions, SUFFIXES, (_read, _read), lambda *_: FlowMetric(), on_error)


def _read(path: Path) -> FlowField:
    flow, known = read_flow(path)
    return FlowField(flow=flow, valid=known, size=known.shape)
