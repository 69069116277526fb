"""What kind of error each wrong object is, and what all errors of a kind cost.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020. hotcoco computes the
costs; the single errors are found here, so that they can be drawn.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from densevision.metrics.average_precision import AveragePrecision
from densevision.results import Detections, Instances
from densevision.results.detections import SURE

KINDS = {
    "Cls": "classification: right place, wrong class",
    "Loc": "localisation: right class, place half right",
    "Both": "both: wrong class, place half right",
    "Dupe": "duplicate: the object was found already",
    "Bkg": "background: nothing is there",
    "Miss": "missed: no prediction comes near",
}
"""TIDE's kinds -> what they are."""
HIT, NEAR = 0.5, 0.1
"""IoU from which a prediction is in the right place, and from which it is near."""
MOST = 100
"""Predictions of an image and class that count, those of the highest scores."""


class ObjectError(NamedTuple):
    """One error.

    Attributes:
        kind: A key of `KINDS`.
        row: Of the prediction; of the truth where it was missed.
    """

    kind: str
    row: int


class ObjectErrors:
    """Errors of objects by kind, and their costs; see `engine.diagnosis`.

    Args:
        names: Class names.
        iou_type: What overlaps: "bbox" or "segm".
    """

    def __init__(self, names: tuple[str, ...], iou_type: str = "bbox"):
        self.iou_type = iou_type
        self.precision = AveragePrecision(names, iou_type)
        self.counts: Counter[str] = Counter()

    def update(self, answer: Detections, truth: Detections, image: np.ndarray | None, id: str) -> None:
        """Takes the objects of one image."""
        self.precision.update(answer, truth, id)
        self.counts.update(error.kind for error in object_errors(answer, truth, self.iou_type))

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """How many errors of each kind there are, and by how much AP50 would rise without them."""
        found = self.precision.tide(HIT, NEAR)
        rows = {
            text: {"errors": self.counts[kind], "cost in AP50": found["delta_ap"][kind]} for kind, text in KINDS.items()
        }
        whole = {
            "all false predictions": {"cost in AP50": found["delta_ap"]["FP"]},
            "all missed objects": {"cost in AP50": found["delta_ap"]["FN"]},
        }
        return {f"errors of {self.iou_type} by kind; AP50 is {found['ap_base']:.4f}": {**rows, **whole}}

    def draw(self, answer: Detections, truth: Detections, canvas: np.ndarray) -> tuple[np.ndarray, str]:
        """The errors alone, each in the color of its kind, those of confident predictions on top."""
        from densevision.draw.shapes import draw_boxes

        kinds = list(KINDS)
        found = object_errors(answer, truth, self.iou_type)
        rows = [(truth if error.kind == "Miss" else answer, error) for error in found]
        kept = [(side, e) for side, e in rows if side is truth or side.scores[e.row] >= SURE]
        boxes = np.array([side.boxes[error.row] for side, error in kept], np.float32).reshape(-1, 4)
        labels = np.array([kinds.index(error.kind) for _, error in kept], np.int64)
        scores = np.array([side.scores[error.row] for side, error in kept], np.float32)
        return draw_boxes(canvas, boxes, labels, kinds, scores), f"errors, scores from {SURE:g}"


def object_errors(answer: Detections, truth: Detections, iou_type: str = "bbox") -> list[ObjectError]:
    """The errors in one image. Predictions inside a crowd region of their class are none."""
    order = _confident(answer)
    overlaps = _overlaps(answer, truth, order, iou_type)
    same = answer.labels[order][:, None] == truth.labels[None]
    matched, excused = _matched(overlaps, same, truth.crowd)
    # A crowd region is no object that a prediction could have meant.
    overlaps = overlaps * ~truth.crowd
    taken = np.isin(np.arange(len(truth)), matched)
    errors, mendable = [], set()
    for row in np.flatnonzero((matched < 0) & ~excused):
        own, other = np.where(same[row], overlaps[row], 0), np.where(same[row], 0, overlaps[row])
        kind, object_ = _kind(own, other, taken)
        errors.append(ObjectError(kind, int(order[row])))
        mendable |= {object_} if kind in ("Cls", "Loc") else set()
    missed = np.flatnonzero(~taken & ~truth.crowd)
    return errors + [ObjectError("Miss", int(row)) for row in missed if row not in mendable]


def _kind(own: np.ndarray, other: np.ndarray, taken: np.ndarray) -> tuple[str, int]:
    """The kind of a false prediction by its IoU with objects of its class and of others; and the object it meant."""
    if own.size and NEAR <= own.max() <= HIT:
        return "Loc", int(own.argmax())
    if other.size and other.max() >= HIT:
        return "Cls", int(other.argmax())
    if own.size and (own * taken).max() >= HIT:
        return "Dupe", int((own * taken).argmax())
    if not own.size or max(own.max(), other.max()) <= NEAR:
        return "Bkg", -1
    return "Both", int(other.argmax())


def _confident(answer: Detections) -> np.ndarray:
    """Rows in falling order of score, the first of each class."""
    order = np.argsort(-answer.scores, kind="stable")
    seen: Counter[int] = Counter()
    kept = []
    for row in order.tolist():
        label = int(answer.labels[row])
        seen[label] += 1
        if seen[label] <= MOST:
            kept.append(row)
    return np.array(kept, np.int64)


def _overlaps(answer: Detections, truth: Detections, order: np.ndarray, iou_type: str) -> np.ndarray:
    """(N, M) IoU by COCO's rules: over the prediction's own area where the truth is a crowd."""
    from pycocotools import mask

    if not len(order) or not len(truth):
        return np.zeros((len(order), len(truth)))
    crowd = truth.crowd.astype(np.uint8).tolist()
    if iou_type == "segm" and isinstance(answer, Instances) and isinstance(truth, Instances):
        sides: Any = [[_bytes(one) for one in side] for side in ([answer.masks[row] for row in order], truth.masks)]
    else:
        sides = [_xywh(answer.boxes[order]), _xywh(truth.boxes)]
    return np.asarray(mask.iou(*sides, crowd))


def _matched(overlaps: np.ndarray, same: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object that each prediction takes, or -1; and which predictions lie in a crowd region."""
    matched, excused = np.full(len(overlaps), -1), np.zeros(len(overlaps), bool)
    free = ~crowd
    for row, (values, own) in enumerate(zip(overlaps, same)):
        fitting = np.where(own & free, values, -1)
        if fitting.size and fitting.max() >= HIT:
            matched[row] = fitting.argmax()
            free[matched[row]] = False
        else:
            excused[row] = bool((own & crowd & (values >= HIT)).any())
    return matched, excused


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float64)


def _bytes(mask: dict[str, Any]) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
