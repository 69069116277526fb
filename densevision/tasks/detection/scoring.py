"""COCO's metrics of boxes, and the metrics of tracks, from prediction files of any tool. No torch here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError
from densevision.metrics.coco_files import score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.scoring import OnError, Scoring, refuse_skip

if TYPE_CHECKING:
    from densevision.tasks.detection.config import DetectionConfig

__all__ = ["SUPPORTED_OPTIONS", "open_files", "refuse_benchmark", "score"]

SUPPORTED_OPTIONS = ("evaluation",)
"""Options of the config that apply to files."""


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DetectionConfig | None = None
) -> dict[str, Any]:
    """COCO's metrics of predictions against a COCO json: metrics, protocol, counts, named, tables.

    Files of MOTChallenge give the metrics of tracks; see `metrics.mot_files.score_mot`.

    Args:
        truth: COCO json with the ground truth; or MOTChallenge's text, or a folder of it.
        predictions: COCO results, or a folder of records (see `metrics.coco_predictions.open_coco_results`);
            MOTChallenge's text, or a folder of it.
        on_error: Only "fail".
        config: Its `evaluation` applies; COCO's protocol by default.

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip", or an option of the other kind of files is set.
    """
    refuse_skip(on_error)
    if _is_mot_truth(truth):
        from densevision.metrics.mot_files import score_mot

        _refuse_coco_options(config)
        return score_mot(truth, predictions, None if config is None else config.evaluation.mot_benchmark)
    refuse_benchmark(config)
    with open_coco_results(predictions, truth) as (results, unlabeled):
        return add_unlabeled(score_files(truth, results, "bbox", max_detections=_get_max_detections(config)), unlabeled)


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DetectionConfig | None = None
) -> Scoring:
    """The same files as records, image by image: several times slower than `score`, with the same metrics."""
    from densevision.metrics.coco_records import read_coco_records
    from densevision.tasks.detection.metrics import DetectionMetric

    refuse_skip(on_error)
    refuse_benchmark(config)
    if _is_mot_truth(truth):
        hint = "Score it without a report; tracks are not evaluated image by image."
        raise UsageError("single images of tracks cannot be shown", file=truth, hint=hint)
    with open_coco_results(predictions, truth) as (results, _):
        records = read_coco_records(truth, results, ("bbox",))
    names = next(iter(records.values()))[1].names if records else ()
    metric = DetectionMetric(names, _get_max_detections(config))
    make_report = partial(score, truth, predictions, config=config)
    return Scoring(metric, list(records), records.__getitem__, make_report=make_report)


def refuse_benchmark(config: DetectionConfig | None) -> None:
    """Refuses the benchmark of tracks where boxes are evaluated.

    Raises:
        UsageError: There is one.
    """
    if config is not None and config.evaluation.mot_benchmark is not None:
        problem, hint = "has no effect: only `score` with files of MOTChallenge has it", "Leave it out."
        value = config.evaluation.mot_benchmark
        raise UsageError(problem, field="evaluation.mot_benchmark", value=value, hint=hint)


def _is_mot_truth(path: Path) -> bool:
    """Whether a file or folder is ground truth in MOTChallenge's format, by its names."""
    if path.is_dir():
        return next(path.glob("*/gt/gt.txt"), None) is not None or next(path.glob("*.txt"), None) is not None
    return path.suffix.lower() == ".txt"


def _refuse_coco_options(config: DetectionConfig | None) -> None:
    if config is not None and config.evaluation.max_detections != MAX_DETECTIONS:
        value = config.evaluation.max_detections
        raise UsageError("has no effect on tracks", field="evaluation.max_detections", value=value)


def _get_max_detections(config: DetectionConfig | None) -> int:
    return MAX_DETECTIONS if config is None else config.evaluation.max_detections
