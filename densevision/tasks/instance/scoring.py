"""Judges objects of any tool by COCO's rules, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import detect_iou_types, score_files
from densevision.metrics.coco_predictions import add_unlabeled, open_coco_results, strip_other_geometry
from densevision.metrics.scoring import OnError, Scoring, refuse_skip
from densevision.ops.skeleton import get_default_sigmas


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """COCO's numbers of a result json against a truth json: metrics, protocol, counts, named, tables.

    What any prediction holds is judged, and each must hold it: boxes, masks, keypoints. Numbers are named such as
    segm/AP.

    Args:
        truth: COCO json.
        predictions: COCO results, or a folder of answers; see `metrics.coco_predictions.open_coco_results`.
        on_error: Only "fail".

    Raises:
        DataError: A file is missing or broken, or an entry is.
        UsageError: `on_error` is "skip".
    """
    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, strangers):
        own = predictions.is_dir()  # an answer of ours is judged as `evaluate` judges it, a file as pycocotools would
        files = {kind: strip_other_geometry(results, kind) if own else results for kind in detect_iou_types(results)}
        scored = {kind: score_files(truth, file, kind) for kind, file in files.items()}
    metrics, tables = {}, {}
    for kind, part in scored.items():
        metrics |= {f"{kind}/{name}": value for name, value in part["metrics"].items()}
        tables |= {f"{kind} {name}": table for name, table in part["tables"].items()}
    first = next(iter(scored.values()))
    protocol = {kind: part["protocol"] for kind, part in scored.items()}
    return add_unlabeled({**first, "metrics": metrics, "protocol": protocol, "tables": tables}, strangers)


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """The same files as records, image by image; several times slower than `score`, whose numbers it tells."""
    from densevision.metrics.coco_records import read_coco_records
    from densevision.tasks.instance.metrics import InstanceMetric

    refuse_skip(on_error)
    with open_coco_results(predictions, truth) as (results, _):
        kinds = tuple(detect_iou_types(results))
        records = read_coco_records(truth, results, kinds)
    ground_truths = [true for _, true in records.values()]
    names = ground_truths[0].names if ground_truths else ()
    keypoint_names = max((true.keypoints.shape[1] for true in ground_truths), default=0) if "keypoints" in kinds else 0
    metric = InstanceMetric(names, kinds, get_default_sigmas(keypoint_names) if keypoint_names else ())
    return Scoring(metric, list(records), records.__getitem__, make_report=lambda: score(truth, predictions))
