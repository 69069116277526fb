"""Semantic maps against scikit-learn, and boundary IoU against the method of its authors."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from sklearn import metrics

from certificates.certificate import Case, Certificate, pair_numbers
from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric

CLASSES = 6
NAMES = tuple(map(str, range(CLASSES)))
UNKNOWN = 255


def make_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and ground truths (3, 40, 50) with patches of classes."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, CLASSES, (3, 8, 10)), 5, 1), 5, 2).astype(np.uint8)
    wrong = rng.integers(0, CLASSES, truth.shape).astype(np.uint8)
    return np.where(rng.random(truth.shape) < 0.7, truth, wrong), truth


def make_variants(seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A name, predictions and ground truths."""
    rng = np.random.default_rng(seed)
    prediction, truth = make_maps(seed)
    yield "all classes present", prediction, truth
    with_unknown = truth.copy()
    with_unknown[rng.random(truth.shape) < 0.2] = UNKNOWN
    yield "unknown pixels", prediction, with_unknown
    with_region = truth.copy()
    with_region[:, 5:25, 10:40] = UNKNOWN
    yield "an unknown region", prediction, with_region
    blank = with_unknown.copy()
    blank[1] = UNKNOWN
    yield "an image without known pixels", prediction, blank
    absent = (np.where(side == 2, 3, side) for side in (prediction, truth))
    yield ("a class neither present nor predicted", *absent)
    yield "a class predicted but not present", prediction, np.where(truth == 4, 5, truth)
    yield "a class present but not predicted", np.where(prediction == 1, 0, prediction), truth


def evaluate(prediction: np.ndarray, truth: np.ndarray) -> SemanticMetric:
    """Our metric of all images."""
    metric = SemanticMetric(NAMES)
    for index, pair in enumerate(zip(prediction, truth)):
        records = (SemanticMap(labels=side.astype(np.uint8), names=NAMES, size=side.shape) for side in pair)
        metric.update(*records, index)
    return metric


def compare_overlaps() -> Iterator[Case]:
    """mIoU and the related metrics."""
    for seed in range(5):
        for name, prediction, truth in make_variants(seed):
            known = truth != UNKNOWN
            true, predicted = truth[known], prediction[known]
            present = np.union1d(true, predicted)
            weights = np.bincount(true, minlength=CLASSES)[present]
            iou = metrics.jaccard_score(true, predicted, average=None, labels=present)
            reference = {
                "mIoU": iou.mean(),
                "mAcc": metrics.recall_score(true, predicted, average="macro", labels=np.unique(true)),
                "aAcc": metrics.accuracy_score(true, predicted),
                "fwIoU": (iou * weights).sum() / weights.sum(),
                "mDice": metrics.f1_score(true, predicted, average="macro", labels=present),
            }
            yield from pair_numbers(name, evaluate(prediction, truth).compute(), reference)


def compare_multilabel() -> Iterator[Case]:
    """Sets of classes, each class as a binary problem."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.random((2, 30, 40, CLASSES)) < 0.3
        prediction = truth ^ (rng.random(truth.shape) < 0.2)
        metric = MultilabelMetric(NAMES)
        bits = 1 << np.arange(CLASSES)
        for index, pair in enumerate(zip(prediction, truth)):
            labels = ((side * bits).sum(-1).astype(np.uint16) for side in pair)
            records = (SemanticMap(labels=x, names=NAMES, multilabel=True, size=x.shape) for x in labels)
            metric.update(*records, index)
        true, predicted = truth.reshape(-1, CLASSES), prediction.reshape(-1, CLASSES)
        iou = metrics.jaccard_score(true, predicted, average=None)
        reference = {
            "mIoU": iou.mean(),
            "mAcc": metrics.recall_score(true, predicted, average="macro"),
            "aAcc": (true == predicted).mean(),
            "fwIoU": np.average(iou, weights=true.sum(0)),
            "mDice": metrics.f1_score(true, predicted, average="macro"),
        }
        yield from pair_numbers("sets of classes", metric.compute(), reference)


def compare_boundaries() -> Iterator[Case]:
    """Boundary IoU class by class, with bands from the erosion of whole masks."""
    for seed in range(2):
        for name, prediction, truth in make_variants(seed):
            ours = evaluate(prediction, truth).compute()["boundaryIoU"]
            yield Case(name, ours, _compute_boundary_iou(prediction, truth))


def _compute_boundary_iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Unknown pixels count as part of every class while bands are drawn, and are left out of the bands afterwards."""
    intersection, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for predicted, true in zip(prediction, truth):
        known = true != UNKNOWN
        for label in range(CLASSES):
            bands = [_mask_to_boundary((side == label) | ~known) for side in (predicted, true)]
            first, second = (band & known & (side == label) for band, side in zip(bands, (predicted, true)))
            intersection[label] += (first & second).sum()
            union[label] += (first | second).sum()
    defined = union > 0
    return float((intersection[defined] / union[defined]).mean())


def _mask_to_boundary(mask: np.ndarray) -> np.ndarray:
    """The mask minus its erosion, padded with background, as the authors of Boundary IoU compute it."""
    width = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)


BOUNDARY_REFERENCE = "Cheng et al. 2021, mask_to_boundary, unknown pixels as described in evaluation.md"
CERTIFICATES = (
    Certificate("semantic", "mIoU mAcc aAcc fwIoU mDice", "scikit-learn", compare_overlaps),
    Certificate("semantic", "multilabel: mIoU mAcc aAcc fwIoU mDice", "scikit-learn", compare_multilabel),
    Certificate("semantic", "boundaryIoU", BOUNDARY_REFERENCE, compare_boundaries),
)
