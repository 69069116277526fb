"""Errors of a detector by kind, and what all errors of a kind cost in average precision.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020. hotcoco computes the
costs; the single errors are located here, so that they can be drawn.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.metric import Tables
from densevision.metrics.tide_kinds import BACKGROUND_IOU, FOREGROUND_IOU, KINDS, compute_ious
from densevision.metrics.tidecv_costs import TidecvCosts
from densevision.results import Detections
from densevision.results.detections import COMPARISON_THRESHOLD

__all__ = ["ObjectError", "TideConvention", "TideErrors", "find_errors"]

TideConvention = Literal["coco", "tidecv"]


class ObjectError(NamedTuple):
    """One error.

    Attributes:
        kind: A key of `KINDS`.
        row: Row of the prediction; of the ground truth for missed objects.
    """

    kind: str
    row: int


class TideErrors:
    """Errors of objects by kind, and their costs; an `evaluation.error_analysis.ErrorAccumulator`.

    Args:
        names: Class names.
        iou_type: "bbox" or "segm".
        convention: "coco" computes costs by COCO's evaluation, with hotcoco; "tidecv" by the conventions of the
            authors' toolbox, see `metrics.tidecv_costs`.
        max_detections: Predictions that count, by descending score: of a class in an image; of an image with "tidecv".
    """

    def __init__(
        self,
        names: tuple[str, ...],
        iou_type: str = "bbox",
        convention: TideConvention = "coco",
        max_detections: int = MAX_DETECTIONS,
    ):
        self.iou_type, self.max_detections = iou_type, max_detections
        self.precision = AveragePrecision(names, iou_type, max_detections=max_detections)
        self.counts: Counter[str] = Counter()
        self.tidecv = TidecvCosts(iou_type, max_detections) if convention == "tidecv" else None

    def update(self, prediction: Detections, truth: Detections, image: np.ndarray | None, image_id: str) -> None:
        """Adds the objects of one image."""
        self.precision.update(prediction, truth, image_id)
        errors = find_errors(prediction, truth, self.iou_type, self.max_detections)
        self.counts.update(error.kind for error in errors)
        if self.tidecv is not None:
            self.tidecv.update(prediction, truth)

    def tables(self) -> Tables:
        """The number of errors of each kind, and by how much AP50 would rise without them."""
        if self.tidecv is not None:
            costs = self.tidecv.compute()
            counts, suffix = costs["counts"], ", as in tidecv"
        else:
            costs = self.precision.tide(FOREGROUND_IOU, BACKGROUND_IOU)
            counts, suffix = self.counts, ""
        rows: dict[str, dict[str, float]] = {
            text: {"errors": counts[kind], "cost in AP50": costs["delta_ap"][kind]} for kind, text in KINDS.items()
        }
        rows["all false predictions"] = {"cost in AP50": costs["delta_ap"]["FP"]}
        rows["all missed objects"] = {"cost in AP50": costs["delta_ap"]["FN"]}
        return {f"errors of {self.iou_type} by kind{suffix}; AP50 is {costs['ap_base']:.4f}": rows}

    def draw(self, prediction: Detections, truth: Detections, canvas: np.ndarray) -> tuple[np.ndarray, str]:
        """Draws the errors, each kind in its own color, those of confident predictions on top."""
        from densevision.draw.shapes import draw_boxes

        kinds = list(KINDS)
        rows = [
            (truth if error.kind == "Miss" else prediction, error)
            for error in find_errors(prediction, truth, self.iou_type, self.max_detections)
        ]
        shown = [
            (side, error) for side, error in rows if side is truth or side.scores[error.row] >= COMPARISON_THRESHOLD
        ]
        boxes = np.array([side.boxes[error.row] for side, error in shown], np.float32).reshape(-1, 4)
        labels = np.array([kinds.index(error.kind) for _, error in shown], np.int64)
        scores = np.array([side.scores[error.row] for side, error in shown], np.float32)
        return draw_boxes(canvas, boxes, labels, kinds, scores), f"errors, scores from {COMPARISON_THRESHOLD:g}"


def find_errors(
    prediction: Detections, truth: Detections, iou_type: str = "bbox", max_detections: int = MAX_DETECTIONS
) -> list[ObjectError]:
    """The errors in one image. Unmatched predictions inside a crowd region of their class are ignored."""
    order = _sort_predictions(prediction, max_detections)
    overlaps = compute_ious(prediction, truth, order, iou_type)
    same_class = prediction.labels[order][:, None] == truth.labels[None]
    matches, ignored = _match(overlaps, same_class, truth.crowd)
    overlaps = overlaps * ~truth.crowd  # a crowd region is not an object that a prediction may be close to
    is_matched = np.isin(np.arange(len(truth)), matches)
    errors, fixable = [], set()
    for row in np.flatnonzero((matches < 0) & ~ignored):
        own_class = np.where(same_class[row], overlaps[row], 0)
        other_class = np.where(same_class[row], 0, overlaps[row])
        kind, object_row = _classify_error(own_class, other_class, is_matched)
        errors.append(ObjectError(kind, int(order[row])))
        if kind in ("Cls", "Loc"):
            fixable.add(object_row)
    missed = np.flatnonzero(~is_matched & ~truth.crowd)
    return errors + [ObjectError("Miss", int(row)) for row in missed if row not in fixable]


def _classify_error(own_class: np.ndarray, other_class: np.ndarray, is_matched: np.ndarray) -> tuple[str, int]:
    """The kind of a false positive, from its IoU with objects of its class and of others; and the closest object."""
    if own_class.size and BACKGROUND_IOU <= own_class.max() <= FOREGROUND_IOU:
        return "Loc", int(own_class.argmax())
    if other_class.size and other_class.max() >= FOREGROUND_IOU:
        return "Cls", int(other_class.argmax())
    if own_class.size and (own_class * is_matched).max() >= FOREGROUND_IOU:
        return "Dupe", int((own_class * is_matched).argmax())
    if not own_class.size or max(own_class.max(), other_class.max()) <= BACKGROUND_IOU:
        return "Bkg", -1
    return "Both", int(other_class.argmax())


def _sort_predictions(prediction: Detections, max_detections: int) -> np.ndarray:
    """Rows by descending score, at most `max_detections` of each class."""
    order = np.argsort(-prediction.scores, kind="stable")
    seen: Counter[int] = Counter()
    rows = []
    for row in order.tolist():
        label = int(prediction.labels[row])
        seen[label] += 1
        if seen[label] <= max_detections:
            rows.append(row)
    return np.array(rows, np.int64)


def _match(overlaps: np.ndarray, same_class: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object that each prediction takes, or -1; and which predictions are ignored in a crowd region."""
    matches, ignored = np.full(len(overlaps), -1), np.zeros(len(overlaps), bool)
    free = ~crowd
    for row, (ious, own_class) in enumerate(zip(overlaps, same_class)):
        candidates = np.where(own_class & free, ious, -1)
        if candidates.size and candidates.max() >= FOREGROUND_IOU:
            matches[row] = candidates.argmax()
            free[matches[row]] = False
        else:
            ignored[row] = bool((own_class & crowd & (ious >= FOREGROUND_IOU)).any())
    return matches, ignored
