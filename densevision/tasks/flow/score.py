"""Judges flow files of any tool against files of truth. No torch here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io.flow import SUFFIXES, read_flow
from densevision.results import FlowField
from densevision.tasks.flow.metric import FlowMetric


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """The numbers of flow files against flow files: metrics, protocol, counts, tables.

    Args:
        truth: A file, or a folder with files below it; see `io.flow.read_flow` for the formats.
        predictions: A file, or a folder with a file of the same name, but for the suffix, for each truth.

    Raises:
        DataError: A file is missing or broken, or two are of different sizes.
    """
    metric = FlowMetric()
    for name, true, answered in _pairs(truth, predictions):
        metric.update(FlowField.of(*read_flow(answered)), FlowField.of(*read_flow(true)), name)
    counts = {"images": len(metric.pictures), **metric.counts()}
    return {"metrics": metric.compute(), "protocol": metric.protocol, "counts": counts, "tables": metric.tables()}


def _pairs(truth: Path, predictions: Path) -> list[tuple[str, Path, Path]]:
    if truth.is_file() or not truth.exists():
        return [(truth.name, truth, predictions)]
    true, answered = _files(truth), _files(predictions)
    if not true:
        raise DataError("no file of optical flow below this folder", file=truth, mend=f"Known: {', '.join(SUFFIXES)}.")
    missing = sorted(true.keys() - answered.keys())
    if missing:
        problem = f"{len(missing)} of {len(true)} answers are missing"
        mend = "Give each the name of its truth; the suffix may differ."
        raise DataError(problem, file=predictions, value=missing[:5], mend=mend)
    return [(name, true[name], answered[name]) for name in sorted(true)]


def _files(folder: Path) -> dict[str, Path]:
    """Path below the folder, without its suffix -> file."""
    found = {}
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(root) / name
            if path.suffix.lower() in SUFFIXES:
                found[str(path.relative_to(folder).with_suffix(""))] = path
    return found
