"""COCO's metrics of objects from prediction files of any tool. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from densevision.errors import UsageError
from densevision.metrics.coco_files import choose_sigmas, detect_iou_types, score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results, strip_other_geometry
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.scoring import OnError, Scoring, refuse_skip
from densevision.results import Instances

if TYPE_CHECKING:
    from densevision.tasks.instance.config import InstanceConfig

__all__ = ["BASE_SETTINGS", "SUPPORTED_OPTIONS", "open_files", "score"]

SUPPORTED_OPTIONS = ("evaluation", "sigmas")
"""Options of the config that apply to files."""
BASE_SETTINGS = {"arch": "keypoint_rcnn"}
"""What the config of files says besides: that there may be keypoints."""


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: InstanceConfig | None = None
) -> dict[str, Any]:
    """COCO's metrics of predictions against a COCO json: metrics, protocol, counts, named, tables.

    Every kind of geometry that any prediction has is evaluated, and all must have it: boxes, masks, keypoints. Metrics
    have names such as segm/AP.

    Args:
        truth: COCO json with the ground truth.
        predictions: COCO results, or a folder of records; see `metrics.coco_predictions.open_coco_results`.
        on_error: Only "fail".
        config: Its `sigmas` and `evaluation` apply; COCO's protocol by default.

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip"; there is not one of the sigmas for each keypoint; or an option has no effect
            on the kinds of geometry that the predictions have.
    """
    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, unlabeled):
        is_own = predictions.is_dir()  # records are scored as in `evaluate`, result files as in pycocotools
        kinds = detect_iou_types(results)
        sigmas, max_detections = _get_rules(config, kinds)
        files = {kind: strip_other_geometry(results, kind) if is_own else results for kind in kinds}
        scored = {kind: score_files(truth, file, kind, sigmas, max_detections) for kind, file in files.items()}
    metrics: dict[str, float] = {}
    tables: dict[str, Any] = {}
    for kind, part in scored.items():
        metrics |= {f"{kind}/{name}": value for name, value in part["metrics"].items()}
        tables |= {f"{kind} {name}": table for name, table in part["tables"].items()}
    first = next(iter(scored.values()))
    protocol = {kind: part["protocol"] for kind, part in scored.items()}
    return add_unlabeled({**first, "metrics": metrics, "protocol": protocol, "tables": tables}, unlabeled)


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: InstanceConfig | None = None
) -> Scoring:
    """The same files as records, image by image: several times slower than `score`, with the same metrics."""
    from densevision.metrics.coco_records import read_coco_records
    from densevision.tasks.instance.metrics import InstanceMetric

    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, _):
        kinds = tuple(detect_iou_types(results))
        records = read_coco_records(truth, results, kinds)
    target_records = [cast(Instances, record) for _, record in records.values()]
    names = target_records[0].names if target_records else ()
    has_keypoints = "keypoints" in kinds
    counts = [record.keypoints.shape[1] for record in target_records if record.keypoints is not None]
    count = max(counts, default=0) if has_keypoints else 0
    sigmas, max_detections = _get_rules(config, kinds)
    metric = InstanceMetric(names, kinds, choose_sigmas(count, sigmas), max_detections)
    make_report = partial(score, truth, predictions, config=config)
    return Scoring(metric, list(records), records.__getitem__, make_report=make_report)


def _get_rules(config: InstanceConfig | None, kinds: Sequence[str]) -> tuple[Sequence[float], int]:
    """The sigmas that are set, if any, and the number of predictions that are evaluated."""
    if config is None:
        return (), MAX_DETECTIONS
    if config.sigmas and "keypoints" not in kinds:
        problem, hint = "has no effect: the predictions have no keypoints", "Leave it out."
        raise UsageError(problem, field="sigmas", value=list(config.sigmas), hint=hint)
    max_detections = config.evaluation.max_detections
    if max_detections != MAX_DETECTIONS and set(kinds) == {"keypoints"}:
        problem, hint = "has no effect on keypoints, of which COCO evaluates 20", "Leave it out."
        raise UsageError(problem, field="evaluation.max_detections", value=max_detections, hint=hint)
    return config.sigmas or (), max_detections
