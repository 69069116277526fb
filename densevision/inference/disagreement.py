"""How much the predictions for views of one image differ: where they do, a model is unsure.

Source of the idea: M. Gao et al., "Consistency-based semi-supervised active learning", ECCV 2020, for classes; the
measures for other results are the errors that their metrics count.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask

from densevision.errors import UsageError
from densevision.inference.predict import predict_samples
from densevision.inference.predictor import Predictor
from densevision.inference.tta import make_tta_views
from densevision.results import DepthMap, Detections, FlowField, Image, Instances, JointResult, Result, SemanticMap
from densevision.run_config import PredictOptions
from densevision.sample import Sample

__all__ = ["choose_transforms", "compare_results", "measure_disagreement"]

TRANSFORMS = ("flip", "scale", "rotate")
"""Transforms whose views are compared, of those that a task supports."""


def choose_transforms(predictor: Predictor) -> tuple[str, ...]:
    """The transforms of test-time augmentation that the task supports.

    Raises:
        UsageError: It supports none.
    """
    names = tuple(name for name in TRANSFORMS if name in predictor.task.tta_transforms)
    if not names:
        raise UsageError("has no views of an image to compare", field="task", value=predictor.task.name)
    return names


def measure_disagreement(predictor: Predictor, sample: Sample, options: PredictOptions) -> float:
    """Compares the prediction for an image with those for its transformed views, mapped back.

    Args:
        predictor: The model.
        sample: The image.
        options: Options of the prediction; `tta` names the transforms.

    Returns:
        The mean of `compare_results` over the views; 0 where all of them agree.
    """
    plain = options.model_copy(update={"tta": ()})
    ((_, first),) = predict_samples(predictor, [sample], plain)
    differences = []
    for view in list(make_tta_views(sample, options.model_copy(update={"tile": None})))[1:]:
        ((_, result),) = predict_samples(predictor, [replace(view.sample, file="")], plain)
        differences.append(compare_results(first, result.warp(view.to_image, sample.size)))
    return float(np.mean(differences))


def compare_results(first: Result, second: Result) -> float:
    """Measures the difference of two predictions for the same image; symmetric, 0 for equal ones.

    Objects: 1 less the Dice coefficient of their scores, where a matched pair of the same class counts with its IoU.
    Classes of pixels: the fraction that differs. Depth: the mean of |a - b| / (a + b). Flow: the mean endpoint error,
    as a fraction of one more than the mean length. Images: the mean absolute difference in [0, 1]. Joint results: the
    mean over the tasks. Only pixels that both know count.
    """
    if isinstance(first, JointResult) and isinstance(second, JointResult):
        return float(np.mean([compare_results(first[name], second[name]) for name in first]))
    if isinstance(first, Detections) and isinstance(second, Detections):
        return _compare_objects(first, second)
    if isinstance(first, SemanticMap) and isinstance(second, SemanticMap):
        return _average(first.labels != second.labels, first.known & second.known)
    if isinstance(first, DepthMap) and isinstance(second, DepthMap):
        total = np.abs(first.depth) + np.abs(second.depth)
        ratio = np.abs(first.depth - second.depth) / np.where(total > 0, total, 1)
        return _average(ratio, first.valid & second.valid)
    if isinstance(first, FlowField) and isinstance(second, FlowField):
        valid = first.valid & second.valid
        lengths = (np.linalg.norm(flow, axis=0) for flow in (first.flow - second.flow, first.flow, second.flow))
        error, *both = (_average(length, valid) for length in lengths)
        return error / (1 + sum(both) / 2)
    if isinstance(first, Image) and isinstance(second, Image):
        difference = np.abs(first.unit() - second.unit())
        return _average(np.nan_to_num(difference), np.isfinite(difference))
    raise UsageError("has no measure of disagreement", field="result", value=type(first).__name__)


def _average(values: np.ndarray, valid: np.ndarray) -> float:
    return float(values[valid].mean()) if valid.any() else 0.0


def _compare_objects(first: Detections, second: Detections) -> float:
    """1 less the Dice coefficient: objects are matched greedily, the best overlap first."""
    total = float(first.scores.sum() + second.scores.sum())
    if not total:
        return 0.0
    overlaps = _compute_overlaps(first, second) * (first.labels[:, None] == second.labels)
    shared = 0.0
    while overlaps.size and overlaps.max() > 0:
        row, column = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        shared += float(overlaps[row, column] * (first.scores[row] + second.scores[column]))
        overlaps[row], overlaps[:, column] = 0, 0
    return 1 - shared / total


def _compute_overlaps(first: Detections, second: Detections) -> np.ndarray:
    """(N, M) IoU of masks where both have them, of boxes otherwise."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    sides: list = []
    for each in (first, second):
        if isinstance(first, Instances) and isinstance(second, Instances) and first.masks and second.masks:
            sides.append(list(each.masks))  # type: ignore[attr-defined]
        else:
            sides.append(np.concatenate([each.boxes[:, :2], each.boxes[:, 2:] - each.boxes[:, :2]], 1).astype(float))
    return np.asarray(coco_mask.iou(*sides, [0] * len(second)), np.float64)
