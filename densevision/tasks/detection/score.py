"""Judges boxes of any tool by COCO's rules, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import score_files
from densevision.metrics.scoring import OnError, Scoring, read_whole


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """COCO's numbers of a result json against a truth json: metrics, protocol, counts, named, tables.

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip".
    """
    read_whole(on_error)
    return score_files(truth, predictions, "bbox")


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """The same files as records, picture by picture; several times slower than `score`, whose numbers it tells."""
    from densevision.metrics.coco_records import read_records
    from densevision.tasks.detection.metric import DetectionMetric

    read_whole(on_error)
    records = read_records(truth, predictions, ("bbox",))
    names = next(iter(records.values()))[1].names if records else ()
    return Scoring(DetectionMetric(names), list(records), records.__getitem__, told=lambda: score(truth, predictions))
