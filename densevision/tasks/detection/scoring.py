"""COCO's metrics of boxes from prediction files of any tool. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results
from densevision.metrics.scoring import OnError, Scoring, refuse_skip

__all__ = ["open_files", "score"]


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """COCO's metrics of predictions against a COCO json: metrics, protocol, counts, named, tables.

    Args:
        truth: COCO json with the ground truth.
        predictions: COCO results, or a folder of records; see `metrics.coco_predictions.open_coco_results`.
        on_error: Only "fail".

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip".
    """
    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, unlabeled):
        return add_unlabeled(score_files(truth, results, "bbox"), unlabeled)


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """The same files as records, image by image: several times slower than `score`, with the same metrics."""
    from densevision.metrics.coco_records import read_coco_records
    from densevision.tasks.detection.metrics import DetectionMetric

    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, _):
        records = read_coco_records(truth, results, ("bbox",))
    names = next(iter(records.values()))[1].names if records else ()
    return Scoring(
        DetectionMetric(names), list(records), records.__getitem__, make_report=lambda: score(truth, predictions)
    )
