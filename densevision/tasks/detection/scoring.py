"""Judges boxes of any tool by COCO's rules, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import score_files
from densevision.metrics.coco_predictions import as_results, with_strangers
from densevision.metrics.scoring import OnError, Scoring, read_whole


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """COCO's numbers of a result json against a truth json: metrics, protocol, counts, named, tables.

    Args:
        truth: COCO json.
        predictions: COCO results, or a folder of answers; see `metrics.coco_answers.as_results`.
        on_error: Only "fail".

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip".
    """
    read_whole(on_error)
    with as_results(predictions, truth) as (results, strangers):
        return with_strangers(score_files(truth, results, "bbox"), strangers)


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """The same files as records, image by image; several times slower than `score`, whose numbers it tells."""
    from densevision.metrics.coco_records import read_records
    from densevision.tasks.detection.metrics import DetectionMetric

    read_whole(on_error)
    with as_results(predictions, truth) as (results, _):
        records = read_records(truth, results, ("bbox",))
    names = next(iter(records.values()))[1].names if records else ()
    return Scoring(DetectionMetric(names), list(records), records.__getitem__, told=lambda: score(truth, predictions))
