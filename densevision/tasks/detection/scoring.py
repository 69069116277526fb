"""COCO's metrics of boxes from prediction files of any tool. No torch here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.metrics.coco_files import score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.scoring import OnError, Scoring, refuse_skip

if TYPE_CHECKING:
    from densevision.tasks.detection.config import DetectionConfig

__all__ = ["SUPPORTED_OPTIONS", "open_files", "score"]

SUPPORTED_OPTIONS = ("evaluation",)
"""Options of the config that apply to files."""


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DetectionConfig | None = None
) -> dict[str, Any]:
    """COCO's metrics of predictions against a COCO json: metrics, protocol, counts, named, tables.

    Args:
        truth: COCO json with the ground truth.
        predictions: COCO results, or a folder of records; see `metrics.coco_predictions.open_coco_results`.
        on_error: Only "fail".
        config: Its `evaluation` applies; COCO's protocol by default.

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip".
    """
    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, unlabeled):
        return add_unlabeled(score_files(truth, results, "bbox", max_detections=_get_max_detections(config)), unlabeled)


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DetectionConfig | None = None
) -> Scoring:
    """The same files as records, image by image: several times slower than `score`, with the same metrics."""
    from densevision.metrics.coco_records import read_coco_records
    from densevision.tasks.detection.metrics import DetectionMetric

    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, _):
        records = read_coco_records(truth, results, ("bbox",))
    names = next(iter(records.values()))[1].names if records else ()
    metric = DetectionMetric(names, _get_max_detections(config))
    make_report = partial(score, truth, predictions, config=config)
    return Scoring(metric, list(records), records.__getitem__, make_report=make_report)


def _get_max_detections(config: DetectionConfig | None) -> int:
    return MAX_DETECTIONS if config is None else config.evaluation.max_detections
