"""Two results of the same image side by side: how far they agree, in numbers and as a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from densevision.app.predictions import Prediction, filter_objects
from densevision.app.views import resize_to_view
from densevision.draw.fields import draw_errors
from densevision.metrics.error_maps import compute_error_map
from densevision.results import Detections, JointResult, Result, SemanticMap

__all__ = ["compare_results", "count_common_objects", "draw_difference"]

MIN_IOU = 0.5
"""Overlap from which two boxes of a class are the same object."""


def compare_results(first: Prediction, second: Prediction, threshold: float) -> list[tuple[str, str, str]]:
    """Rows of a table: what is compared, the first and the second; the second is empty where one number is for both.

    Args:
        first: The prediction of the first weights.
        second: That of the second weights.
        threshold: Score from which objects count.
    """
    rows = [("time", f"{first.seconds:.2f} s", f"{second.seconds:.2f} s")]
    return rows + _compare(*(filter_objects(each.result, threshold) for each in (first, second)))


def count_common_objects(first: Detections, second: Detections) -> int:
    """Number of pairs of objects of one class (by its name) whose boxes overlap by at least `MIN_IOU`."""
    overlap = _compute_iou(first.boxes, second.boxes)
    names = (np.array([each.names[label] for label in each.labels], dtype=object) for each in (first, second))
    first_names, second_names = names
    overlap = np.where(first_names[:, None] == second_names[None], overlap, 0)
    rows, columns = linear_sum_assignment(overlap >= MIN_IOU, maximize=True)
    return int((overlap[rows, columns] >= MIN_IOU).sum())


def draw_difference(first: Result, second: Result) -> tuple[np.ndarray, str] | None:
    """The difference of two results at each pixel and what its colors mean; None for results without pixels.

    Returns:
        (H, W, 3) uint8 RGB, from white (equal) to dark red, and a caption.
    """
    errors = compute_error_map(first, second)
    if errors is None:
        return None
    caption = errors.caption.replace("wrong pixels", "pixels of different classes").replace("error", "difference")
    caption = caption[0].upper() + caption[1:]
    return resize_to_view(draw_errors(errors.values, errors.known, errors.limit), is_smooth=False), caption


def _compare(first: Result, second: Result) -> list[tuple[str, str, str]]:
    if isinstance(first, JointResult) and isinstance(second, JointResult):
        rows = []
        for name in first.results:
            if name in second.results:
                rows += [(f"{name}: {row[0]}", *row[1:]) for row in _compare(first[name], second[name])]
        return rows
    if isinstance(first, Detections) and isinstance(second, Detections):
        return _compare_objects(first, second)
    errors = compute_error_map(first, second)
    if errors is None:
        return []
    values = errors.values[errors.known]
    if isinstance(first, SemanticMap):
        same = 1 - float(values.mean()) if values.size else 1.0
        return [("pixels of the same class", f"{same:.1%}", "")]
    name = errors.caption.partition(",")[0].replace("error", "difference")
    return [(f"mean {name}", f"{values.mean():.4g}" if values.size else "none", "")]


def _compare_objects(first: Detections, second: Detections) -> list[tuple[str, str, str]]:
    common = count_common_objects(first, second)
    rows = [
        ("objects", str(len(first)), str(len(second))),
        (f"found by both (IoU of at least {MIN_IOU:g})", str(common), ""),
        ("found by one only", str(len(first) - common), str(len(second) - common)),
    ]
    counts = [_count_classes(each) for each in (first, second)]
    names: Sequence[str] = list(dict.fromkeys([*counts[0], *counts[1]]))
    return rows + [(name, *(str(each.get(name, 0)) for each in counts)) for name in names]  # type: ignore[misc]


def _count_classes(objects: Detections) -> dict[str, int]:
    labels, counts = np.unique(objects.labels, return_counts=True)
    return {objects.names[label]: int(count) for label, count in zip(labels, counts)}


def _compute_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), xyxy."""
    import torch

    from densevision.ops.boxes import pairwise_iou

    return pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
