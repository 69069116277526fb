"""Class maps beside scikit-learn, and boundary IoU beside its definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn import metrics

from certificates.certificate import Case, Certificate, side_by_side
from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import SemanticMetric

CLASSES = 6
UNKNOWN = 255


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers and truths (3, 40, 50) with patches of classes."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, CLASSES, (3, 8, 10)), 5, 1), 5, 2).astype(np.uint8)
    wrong = rng.integers(0, CLASSES, truth.shape).astype(np.uint8)
    return np.where(rng.random(truth.shape) < 0.7, truth, wrong), truth


def variants(seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A name, answers and truths."""
    rng = np.random.default_rng(seed)
    answer, truth = maps(seed)
    yield "every class there", answer, truth
    holes = truth.copy()
    holes[rng.random(truth.shape) < 0.2] = UNKNOWN
    yield "pixels of 255", answer, holes
    blank = holes.copy()
    blank[1] = UNKNOWN
    yield "an image of 255 alone", answer, blank
    yield "a class neither there nor answered", np.where(answer == 2, 3, answer), np.where(truth == 2, 3, truth)
    yield "a class answered and nowhere there", answer, np.where(truth == 4, 5, truth)
    yield "a class there and never answered", np.where(answer == 1, 0, answer), truth


def judged(answer: np.ndarray, truth: np.ndarray) -> SemanticMetric:
    """Our metric of all images."""
    metric = SemanticMetric(tuple(map(str, range(CLASSES))))
    for index, (said, told) in enumerate(zip(answer, truth)):
        said, told = (SemanticMap(labels=x.astype(np.uint8), names=metric.names, size=x.shape) for x in (said, told))
        metric.update(said, told, index)
    return metric


def overlaps() -> Iterator[Case]:
    """mIoU and its companions."""
    for seed in range(5):
        for name, answer, truth in variants(seed):
            known = truth != UNKNOWN
            told, said = truth[known], answer[known]
            there = np.union1d(told, said)
            weights = np.bincount(told, minlength=CLASSES)[there]
            iou = metrics.jaccard_score(told, said, average=None, labels=there)
            yield from side_by_side(
                name,
                judged(answer, truth).compute(),
                {
                    "mIoU": iou.mean(),
                    "mAcc": metrics.recall_score(told, said, average="macro", labels=np.unique(told)),
                    "aAcc": metrics.accuracy_score(told, said),
                    "fwIoU": (iou * weights).sum() / weights.sum(),
                    "mDice": metrics.f1_score(told, said, average="macro", labels=there),
                },
            )


def borders() -> Iterator[Case]:
    """Boundary IoU class by class: pixels of a class whose square window leaves it, counted one by one."""
    for seed in range(2):
        for name, answer, truth in variants(seed):
            yield Case(name, judged(answer, truth).compute()["boundaryIoU"], _boundary_iou(answer, truth))


def _boundary_iou(answer: np.ndarray, truth: np.ndarray) -> float:
    common, either = np.zeros(CLASSES), np.zeros(CLASSES)
    for said, told in zip(answer, truth):
        said = np.where(told == UNKNOWN, UNKNOWN, said)
        width = max(1, round(0.02 * float(np.hypot(*told.shape))))
        one, other = _rim(said, width), _rim(told, width)
        for label in range(CLASSES):
            mine, theirs = one & (said == label), other & (told == label)
            common[label] += (mine & theirs).sum()
            either[label] += (mine | theirs).sum()
    known = either > 0
    return float((common[known] / either[known]).mean())


def _rim(labels: np.ndarray, width: int) -> np.ndarray:
    """Known pixels in whose window lies another class or the outside; unknown pixels are no other class."""
    height, breadth = labels.shape
    found = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(breadth):
            window = labels[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            outside = y < width or x < width or y + width >= height or x + width >= breadth
            found[y, x] = outside or bool(((window != labels[y, x]) & (window != UNKNOWN)).any())
    return found & (labels != UNKNOWN)


CERTIFICATES = (
    Certificate("semantic", "mIoU mAcc aAcc fwIoU mDice", "scikit-learn", overlaps),
    Certificate("semantic", "boundaryIoU", "Cheng et al. 2021, eq. 2, pixel by pixel", borders),
)
