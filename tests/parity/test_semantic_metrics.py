"""Metrics of the confusion matrix against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import SemanticMetric

pytestmark = pytest.mark.parity
NAMES = tuple("abcde")


def evaluate(seed: int) -> tuple[SemanticMetric, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(NAMES), (3, 40, 50)).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, len(NAMES), truth.shape)).astype(
        np.uint8
    )
    truth[rng.random(truth.shape) < 0.1] = 255
    metric = SemanticMetric(NAMES)
    for index, (predicted, true) in enumerate(zip(prediction, truth)):
        metric.update(*(SemanticMap(labels=x, names=NAMES, size=x.shape) for x in (predicted, true)), index)
    return metric, prediction, truth


@pytest.mark.parametrize("seed", range(3))
def test_confusion__equals_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    metric, prediction, truth = evaluate(seed)
    known = truth != 255
    expected = sklearn.confusion_matrix(truth[known], prediction[known], labels=range(len(NAMES)))
    np.testing.assert_array_equal(metric.confusion.matrix, expected)


@pytest.mark.parametrize("seed", range(3))
def test_metrics__equal_torchmetrics(seed: int) -> None:
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

    metric, prediction, truth = evaluate(seed)
    predicted, true = (torch.from_numpy(x.astype(np.int64)) for x in (prediction, truth))
    common = {"num_classes": len(NAMES), "ignore_index": 255}
    expected = {
        "mIoU": MulticlassJaccardIndex(average="macro", **common),
        "fwIoU": MulticlassJaccardIndex(average="weighted", **common),
        "mAcc": MulticlassAccuracy(average="macro", **common),
        "aAcc": MulticlassAccuracy(average="micro", **common),
        "mDice": MulticlassF1Score(average="macro", **common),
    }
    result = metric.compute()
    for name, reference in expected.items():
        assert result[name] == pytest.approx(float(reference(predicted, true)), abs=1e-6), name
