"""Costs of TIDE's kinds of errors by the conventions of tidecv, the toolbox of its authors.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020, and the behavior of
tidecv 1.0.1. It differs from the costs by hotcoco, which follow COCO's evaluation, in four points:

- AP is the mean over the classes with ground truth or predictions: a class with predictions only counts with AP 0.
- At most 100 predictions of an image count by default, of all classes together; COCO takes 100 of each class.
- Predictions that overlap a crowd region of their class by more than the threshold are ignored; COCO includes equality.
- Ignored predictions are sorted into kinds like false positives, and fixing them may add a true positive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.matches import average_precision
from densevision.metrics.tide_kinds import BACKGROUND_IOU, FOREGROUND_IOU, KINDS, compute_ious
from densevision.results import Detections

__all__ = ["TidecvCosts"]

RECALLS = np.arange(101) / 100
TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1

Point = tuple[int, float, bool]
"""Class, score, and whether a prediction is a true positive."""


class _Error(NamedTuple):
    """An error.

    Attributes:
        kind: A key of `KINDS`.
        original: The prediction as it is; None for ignored predictions and missed objects.
        fixed: The prediction once the error is fixed; None if that removes it.
    """

    kind: str
    original: Point | None
    fixed: Point | None


class TidecvCosts:
    """Accumulates the errors of images and computes their costs.

    Args:
        iou_type: "bbox" or "segm".
        max_detections: Predictions of an image that count, by descending score.
    """

    def __init__(self, iou_type: str = "bbox", max_detections: int = MAX_DETECTIONS):
        self.iou_type, self.max_detections = iou_type, max_detections
        self._points: list[Point] = []
        self._errors: list[_Error] = []
        self._positives: Counter[int] = Counter()
        self._false_negatives: Counter[int] = Counter()
        self._missed: Counter[int] = Counter()

    def update(self, prediction: Detections, truth: Detections) -> None:
        """Adds the objects of one image."""
        order = np.argsort(-prediction.scores, kind="stable")[: self.max_detections]
        labels, scores = prediction.labels[order], prediction.scores[order]
        overlaps = compute_ious(prediction, truth, order, self.iou_type)
        objects = ~np.asarray(truth.crowd, bool)
        true_labels = truth.labels[objects]
        same_class = labels[:, None] == true_labels[None]
        states, is_matched = _match(overlaps[:, objects] * same_class)
        crowd_overlaps = overlaps[:, ~objects] * (labels[:, None] == truth.labels[~objects][None])
        states[(states == FALSE_POSITIVE) & (crowd_overlaps > FOREGROUND_IOU).any(1)] = IGNORED

        fixable: set[int] = set()
        for row, (label, score, state) in enumerate(zip(labels.tolist(), scores.tolist(), states.tolist())):
            point = (label, score, state == TRUE_POSITIVE)
            if state != IGNORED:
                self._points.append(point)
            if state == TRUE_POSITIVE:
                continue
            kind, column = _classify(overlaps[row, objects], same_class[row], is_matched)
            fixed = None
            if column >= 0 and not is_matched[column] and column not in fixable:
                fixable.add(column)  # predictions come by descending score: the first one is fixed, others are removed
                fixed = (int(true_labels[column]), score, True)
            self._errors.append(_Error(kind, None if state == IGNORED else point, fixed))
        for column, label in enumerate(true_labels.tolist()):
            self._positives[label] += 1
            if not is_matched[column]:
                self._false_negatives[label] += 1
                if column not in fixable:
                    self._missed[label] += 1
                    self._errors.append(_Error("Miss", None, None))

    def compute(self) -> dict[str, Any]:
        """`ap_base`, and `delta_ap` and `counts` by kind; `delta_ap` also for FP and FN. AP50 is 0 to 1."""
        correct = [point for point in self._points if point[2]]
        # Errors come before true positives, which decides the order of equal scores.
        reordered = [error.original for error in self._errors if error.original is not None] + correct
        base = _mean_ap(self._points, self._positives)
        delta = {}
        for kind in KINDS:
            changed = (error.fixed if error.kind == kind else error.original for error in self._errors)
            points = [point for point in changed if point is not None] + correct
            positives = _subtract(self._positives, self._missed) if kind == "Miss" else self._positives
            delta[kind] = max(_mean_ap(points, positives) - base, 0.0)
        full_precision = [(label, float(is_correct), is_correct) for label, _, is_correct in self._points]
        delta["FP"] = _mean_ap(full_precision, self._positives) - base
        delta["FN"] = _mean_ap(reordered, _subtract(self._positives, self._false_negatives)) - base
        counts = Counter(error.kind for error in self._errors)
        return {"ap_base": base, "delta_ap": delta, "counts": {kind: counts[kind] for kind in KINDS}}


def _match(ious: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) states of predictions by descending score, and (M,) which objects are matched, from (N, M) IoU."""
    states, is_matched = np.full(len(ious), FALSE_POSITIVE), np.zeros(ious.shape[1], bool)
    free = ious.copy()
    for row in np.flatnonzero((ious >= FOREGROUND_IOU).any(1)):
        column = free[row].argmax()
        if free[row, column] >= FOREGROUND_IOU:
            states[row], is_matched[column] = TRUE_POSITIVE, True
            free[:, column] = 0
    return states, is_matched


def _classify(ious: np.ndarray, same_class: np.ndarray, is_matched: np.ndarray) -> tuple[str, int]:
    """The kind of an error, and the object that a fixed prediction would match, or -1."""
    if not ious.size:
        return "Bkg", -1
    own_class, other_class = ious * same_class, ious * ~same_class
    if BACKGROUND_IOU <= own_class.max() <= FOREGROUND_IOU:
        return "Loc", int(own_class.argmax())
    if other_class.max() >= FOREGROUND_IOU:
        return "Cls", int(other_class.argmax())
    if (own_class * is_matched).max() >= FOREGROUND_IOU:
        return "Dupe", -1
    return ("Bkg" if ious.max() <= BACKGROUND_IOU else "Both"), -1


def _subtract(positives: Counter[int], removed: Counter[int]) -> Counter[int]:
    return Counter({label: count - removed[label] for label, count in positives.items()})


def _mean_ap(points: Iterable[Point], positives: Counter[int]) -> float:
    """Mean AP over the classes with predictions or ground truth; NaN without any."""
    by_class: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        by_class[point[0]].append(point)
    classes = by_class.keys() | {label for label, count in positives.items() if count}
    values = [_compute_ap(by_class[label], positives[label]) for label in classes]
    return float(np.mean(values)) if values else float("nan")


def _compute_ap(points: list[Point], positives: int) -> float:
    if not positives:
        return 0.0
    order = sorted(points, key=lambda point: -point[1])
    hits = np.array([is_correct for *_, is_correct in order], bool)
    rows = np.flatnonzero(hits)
    return float(average_precision(np.cumsum(hits)[rows].astype(float), rows + 1.0, positives, RECALLS))
