"""COCO's protocol: which predictions match which ground truths, and precision and recall.

hotcoco does the matching. Where it differs from pycocotools, pycocotools is followed:

- Predictions for unknown images or classes are refused; hotcoco drops them with a warning.
- An undefined metric is NaN; both tools write -1.

Two cases follow the intent of the protocol, although pycocotools fails on them: an empty list of predictions scores 0,
and a ground truth with the id 0 is matched like any other (pycocotools takes that id for "unmatched").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.metrics.curves import Curves, extract_curves, extract_metrics

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval

__all__ = [
    "MAX_DETECTIONS",
    "CocoScores",
    "compute_coco_scores",
    "define_metrics",
    "describe_protocol",
    "list_max_detections",
    "match_predictions",
]

MAX_DETECTIONS = 100
"""Predictions of a class in an image that COCO's protocol of boxes and masks evaluates, the best ones."""


@dataclass(frozen=True)
class CocoScores:
    """COCO's metrics of a dataset.

    Attributes:
        names: Class names, K of them.
        table: Metric name -> (K,) values, NaN for classes without ground truth of that size.
        curves: Precision over recall.
    """

    names: tuple[str, ...]
    table: dict[str, np.ndarray]
    curves: Curves

    def summary(self) -> dict[str, float]:
        """The mean of each metric over the classes with ground truth; NaN if there are none."""
        defined = {name: values[~np.isnan(values)] for name, values in self.table.items()}
        return {name: float(values.mean()) if len(values) else float("nan") for name, values in defined.items()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> metric name -> value."""
        rows = zip(*(values.tolist() for values in self.table.values()))
        return {name: dict(zip(self.table, row)) for name, row in zip(self.names, rows)}


def compute_coco_scores(
    truth: COCO,
    predictions: COCO,
    names: Sequence[str],
    iou_type: str = "bbox",
    sigmas: Sequence[float] = (),
    max_detections: int = MAX_DETECTIONS,
) -> CocoScores:
    """Matches predictions with ground truth by COCO's rules and computes the metrics.

    Args:
        truth: Annotations.
        predictions: Results loaded against `truth`.
        names: Class names in the order of the category ids.
        iou_type: "bbox", "segm" or "keypoints".
        sigmas: OKS constant of each keypoint; COCO's by default.
        max_detections: See `list_max_detections`.
    """
    evaluation = match_predictions(truth, predictions, iou_type, sigmas, max_detections=max_detections)
    evaluation.accumulate()
    arrays: Any = evaluation.eval
    params = evaluation.params
    table = extract_metrics(define_metrics(evaluation), params, arrays["precision"], arrays["recall"])
    return CocoScores(tuple(names), table, extract_curves(params, arrays, names))


def match_predictions(
    truth: COCO,
    predictions: COCO,
    iou_type: str = "bbox",
    sigmas: Sequence[float] = (),
    classes: Sequence[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> COCOeval:
    """An evaluation with matched images, before accumulation; see `compute_coco_scores`.

    Args:
        truth: Annotations.
        predictions: Results loaded against `truth`.
        iou_type: "bbox", "segm" or "keypoints".
        sigmas: OKS constant of each keypoint; COCO's by default.
        classes: Category ids; all by default.
        max_detections: See `list_max_detections`.
    """
    from hotcoco import COCOeval

    evaluation = COCOeval(truth, predictions, iou_type)
    evaluation.params.max_dets = list_max_detections(iou_type, max_detections)
    if sigmas:
        evaluation.params.kpt_oks_sigmas = list(sigmas)
    if classes is not None:
        evaluation.params.cat_ids = list(classes)
    evaluation.evaluate()
    return evaluation


def list_max_detections(iou_type: str, max_detections: int = MAX_DETECTIONS) -> list[int]:
    """COCO's `maxDets`: how many predictions of a class in an image are evaluated, for each recall.

    Args:
        iou_type: "bbox", "segm" or "keypoints".
        max_detections: The largest number for boxes and masks, above 10; keypoints always have COCO's 20.

    >>> list_max_detections("segm", 300)
    [1, 10, 300]
    """
    return [20] if iou_type == "keypoints" else [1, 10, max_detections]


def define_metrics(evaluation: COCOeval) -> list[dict[str, Any]]:
    """hotcoco's definitions of the metrics; the recall that it always calls AR100 is named after its own maximum."""
    definitions = [dict(definition) for definition in evaluation.metric_defs()]
    for definition in definitions:
        if definition["name"] == "AR100":
            definition["name"] = f"AR{definition['max_det']}"
    return definitions


def describe_protocol(
    iou_type: str = "bbox", sigmas: Sequence[float] = (), max_detections: int = MAX_DETECTIONS
) -> dict[str, Any]:
    """Everything that must be known to compare the metrics with another tool's; arguments as `compute_coco_scores`."""
    import hotcoco

    params = hotcoco.Params(iou_type)
    keypoints = {"sigmas": list(sigmas) or params.kpt_oks_sigmas} if iou_type == "keypoints" else {}
    return {
        "tool": f"hotcoco {hotcoco.__version__}",
        "reference": "pycocotools COCOeval",
        "iou_type": iou_type,
        "iou_thresholds": [round(threshold, 2) for threshold in params.iou_thrs],
        "recall_points": len(params.rec_thrs),
        "area_ranges": dict(zip(params.area_rng_lbl, params.area_rng)),
        "max_detections": list_max_detections(iou_type, max_detections),
        **keypoints,
        "crowd": "unmatched predictions inside a crowd region of their class are neither true nor false positives",
        "undefined": "NaN where there is no ground truth; means are over the classes with ground truth",
    }
