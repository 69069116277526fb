"""COCO's rules: which predictions match which truths, and what precision and recall come to.

hotcoco does the matching. Where it and pycocotools part ways, pycocotools is followed:

- Predictions of images or classes that the truth does not know are refused; hotcoco leaves them out with a warning.
- A number that no truth defines is NaN; both tools write -1.

Two things are taken as the field means them, although pycocotools fails on them: truth with an empty list of
predictions scores 0, and a truth with the id 0 is matched like any other (pycocotools takes that id for "unmatched").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.metrics.curves import Curves, curves_of, table

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval


@dataclass(frozen=True)
class Scored:
    """Precision and recall of a whole dataset.

    Attributes:
        names: Class names, K of them.
        table: Metric name -> (K,) numbers, NaN for a class without truth of that size.
        curves: Precision over recall.
    """

    names: tuple[str, ...]
    table: dict[str, np.ndarray]
    curves: Curves

    def summary(self) -> dict[str, float]:
        """The mean of each metric over the classes that have truth; NaN where none has."""
        known = {name: numbers[~np.isnan(numbers)] for name, numbers in self.table.items()}
        return {name: float(numbers.mean()) if len(numbers) else float("nan") for name, numbers in known.items()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> metric name -> number."""
        rows = zip(*(numbers.tolist() for numbers in self.table.values()))
        return {name: dict(zip(self.table, row)) for name, row in zip(self.names, rows)}


def score(
    truth: COCO, predictions: COCO, names: Sequence[str], iou_type: str = "bbox", sigmas: Sequence[float] = ()
) -> Scored:
    """Matches predictions with truth by COCO's rules.

    Args:
        truth: Annotations.
        predictions: Results loaded against `truth`.
        names: Class names in the order of the category ids.
        iou_type: What overlaps: "bbox", "segm" or "keypoints".
        sigmas: Spread of each keypoint; COCO's when not given.
    """
    evaluation = matched(truth, predictions, iou_type, sigmas)
    evaluation.accumulate()
    arrays, params = evaluation.eval, evaluation.params
    curves = curves_of(params, arrays, names)
    return Scored(tuple(names), table(evaluation.metric_defs(), params, arrays["precision"], arrays["recall"]), curves)


def matched(
    truth: COCO,
    predictions: COCO,
    iou_type: str = "bbox",
    sigmas: Sequence[float] = (),
    classes: Sequence[int] | None = None,
) -> COCOeval:
    """An evaluation whose images are matched and whose numbers are not yet accumulated; see `score`.

    Args:
        truth: Annotations.
        predictions: Results.
        iou_type: What overlaps.
        sigmas: Spread of each keypoint.
        classes: Ids of the categories; all when not given.
    """
    from hotcoco import COCOeval

    evaluation = COCOeval(truth, predictions, iou_type)
    if sigmas:
        evaluation.params.kpt_oks_sigmas = list(sigmas)
    if classes is not None:
        evaluation.params.cat_ids = list(classes)
    evaluation.evaluate()
    return evaluation


def protocol(iou_type: str = "bbox", sigmas: Sequence[float] = ()) -> dict[str, Any]:
    """All that a reader needs in order to compare the numbers with another tool's; for arguments see `score`."""
    import hotcoco

    params = hotcoco.Params(iou_type)
    spread = {"sigmas": list(sigmas) or params.kpt_oks_sigmas} if iou_type == "keypoints" else {}
    return {
        "tool": f"hotcoco {hotcoco.__version__}",
        "reference": "pycocotools COCOeval",
        "iou_type": iou_type,
        "iou_thresholds": [round(threshold, 2) for threshold in params.iou_thrs],
        "recall_points": len(params.rec_thrs),
        "area_ranges": dict(zip(params.area_rng_lbl, params.area_rng)),
        "max_detections": params.max_dets,
        **spread,
        "crowd": "predictions left over inside a crowd region of their class count neither as hit nor as false alarm",
        "undefined": "NaN where there is no truth; means are over the classes that have truth",
    }
