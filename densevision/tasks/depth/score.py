"""Judges files of depth or disparity of any tool against files of truth. No torch here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io.depth import SUFFIXES, read_depth
from densevision.results.depth_map import PNG16, DepthMap
from densevision.tasks.depth.metric import DepthMetric, Protocol


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """The numbers of files against files: metrics, protocol, counts, tables.

    A file is disparity where it says so (`.npz`) or where its name or folder has "disp" in it, otherwise metric depth.
    Answers without a unit are aligned as their kind needs; the numbers' names then say so.

    Args:
        truth: A file, or a folder with files below it; see `io.depth.read_depth` for the formats. A 16-bit picture says
            its scale by its name: `a.kitti.png` is 256 steps per unit, `a.depth.png` 1000.
        predictions: A file, or a folder with a file of the same name, but for the suffixes, for each truth.

    Raises:
        DataError: A file is missing or broken, or two are of different sizes.
    """
    pairs = _pairs(truth, predictions)
    first = _read(pairs[0][2])
    metric = DepthMetric(Protocol("none" if first.unit else "median" if first.kind == "relative" else "lstsq"))
    for name, true, answered in pairs:
        metric.update(_read(answered), _read(true), name)
    counts = {"images": len(metric.pictures), **metric.counts()}
    return {"metrics": metric.compute(), "protocol": metric.protocol, "counts": counts, "tables": metric.tables()}


def _read(path: Path) -> DepthMap:
    scale = next((steps for ending, steps in PNG16.items() if path.name.lower().endswith(ending)), None)
    found = read_depth(path, scale)
    named = "disparity" if "disp" in f"{path.parent.name}/{path.name}".lower() else "metric"
    kind = found.kind or named
    unit = found.unit if found.unit is not None else {"disparity": "px", "metric": "m"}.get(kind, "")
    return DepthMap.of(found.depth, found.valid, kind=kind, unit=unit)


def _pairs(truth: Path, predictions: Path) -> list[tuple[str, Path, Path]]:
    if truth.is_file() or not truth.exists():
        return [(truth.name, truth, predictions)]
    true, answered = _files(truth), _files(predictions)
    if not true:
        raise DataError("no file of depth below this folder", file=truth, mend=f"Known: {', '.join(SUFFIXES)}.")
    missing = sorted(true.keys() - answered.keys())
    if missing:
        problem = f"{len(missing)} of {len(true)} answers are missing"
        raise DataError(problem, file=predictions, value=missing[:3], mend="Name them as the truth.")
    return [(name, true[name], answered[name]) for name in sorted(true)]


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return {os.path.join(path.parent.relative_to(folder), path.name.split(".")[0]): path for path in found}
