"""The numbers of a confusion matrix, beside torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import SemanticMetric

pytestmark = pytest.mark.parity
NAMES = tuple("abcde")


def judged(seed: int) -> tuple[SemanticMetric, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(NAMES), (3, 40, 50)).astype(np.uint8)
    answer = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, len(NAMES), truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    metric = SemanticMetric(NAMES)
    for index, (said, told) in enumerate(zip(answer, truth)):
        metric.update(*(SemanticMap(labels=x, names=NAMES, size=x.shape) for x in (said, told)), index)
    return metric, answer, truth


@pytest.mark.parametrize("seed", range(3))
def test_confusion__equals_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    metric, answer, truth = judged(seed)
    known = truth != 255
    wanted = sklearn.confusion_matrix(truth[known], answer[known], labels=range(len(NAMES)))
    np.testing.assert_array_equal(metric.confusion.matrix, wanted)


@pytest.mark.parametrize("seed", range(3))
def test_numbers__equal_torchmetrics(seed: int) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

    metric, answer, truth = judged(seed)
    said, told = (torch.from_numpy(x.astype(np.int64)) for x in (answer, truth))
    common = {"num_classes": len(NAMES), "ignore_index": 255}
    wanted = {
        "mIoU": MulticlassJaccardIndex(average="macro", **common),
        "fwIoU": MulticlassJaccardIndex(average="weighted", **common),
        "mAcc": MulticlassAccuracy(average="macro", **common),
        "aAcc": MulticlassAccuracy(average="micro", **common),
        "mDice": MulticlassF1Score(average="macro", **common),
    }
    found = metric.compute()
    for name, reference in wanted.items():
        assert found[name] == pytest.approx(float(reference(said, told)), abs=1e-6), name
