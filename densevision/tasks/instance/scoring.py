"""COCO's metrics of objects from prediction files of any tool. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from densevision.metrics.coco_files import detect_iou_types, score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results, strip_other_geometry
from densevision.metrics.scoring import OnError, Scoring, refuse_skip
from densevision.ops.skeleton import get_default_sigmas
from densevision.results import Instances

__all__ = ["open_files", "score"]


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """COCO's metrics of predictions against a COCO json: metrics, protocol, counts, named, tables.

    Every kind of geometry that any prediction has is evaluated, and all must have it: boxes, masks, keypoints. Metrics
    have names such as segm/AP.

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
        is_own = predictions.is_dir()  # records are scored as in `evaluate`, result files as in pycocotools
        files = {kind: strip_other_geometry(results, kind) if is_own else results for kind in detect_iou_types(results)}
        scored = {kind: score_files(truth, file, kind) for kind, file in files.items()}
    metrics: dict[str, float] = {}
    tables: dict[str, Any] = {}
    for kind, part in scored.items():
        metrics |= {f"{kind}/{name}": value for name, value in part["metrics"].items()}
        tables |= {f"{kind} {name}": table for name, table in part["tables"].items()}
    first = next(iter(scored.values()))
    protocol = {kind: part["protocol"] for kind, part in scored.items()}
    return add_unlabeled({**first, "metrics": metrics, "protocol": protocol, "tables": tables}, unlabeled)


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
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
    metric = InstanceMetric(names, kinds, get_default_sigmas(count) if count else ())
    return Scoring(metric, list(records), records.__getitem__, make_report=lambda: score(truth, predictions))
