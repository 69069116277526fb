"""Metrics of class maps by hand: absent classes, unknown pixels, multilabel maps, merging."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric

NAMES = ("sky", "road", "car", "cow")


def make_map(rows: list[list[int]], multilabel: bool = False) -> SemanticMap:
    labels = np.array(rows, np.uint16 if multilabel else np.uint8)
    return SemanticMap(labels=labels, names=NAMES, size=labels.shape, multilabel=multilabel)


def test_metrics__by_hand() -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0, 0, 1, 1], [0, 2, 2, 1]]), make_map([[0, 0, 0, 1], [255, 2, 2, 2]]), 0)
    # sky 2 of 3, road 1 of 3, car 2 of 3; the unknown pixel is predicted as sky, which is ignored.
    metrics = metric.compute()
    assert metrics["mIoU"] == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)
    assert metrics["aAcc"] == pytest.approx(5 / 7)
    assert metrics["mAcc"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert metrics["fwIoU"] == pytest.approx((3 * 2 / 3 + 1 * 1 / 3 + 3 * 2 / 3) / 7)
    assert metrics["mDice"] == pytest.approx((4 / 5 + 2 / 4 + 4 / 5) / 3)


def test_absent_class__is_undefined_and_counted() -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0, 1, 2, 2]]), make_map([[0, 1, 1, 2]]), 0)
    rows = metric.tables()["per class"]
    assert math.isnan(rows["cow"]["IoU"]) and math.isnan(rows["cow"]["boundaryIoU"]) and rows["cow"]["pixels"] == 0
    assert metric.counts()["absent classes"] == 1 and metric.counts()["classes"] == 3
    assert metric.compute()["mIoU"] == pytest.approx(np.mean([rows[name]["IoU"] for name in NAMES[:3]]))


def test_false_positive_class__has_iou_0() -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0, 3]]), make_map([[0, 0]]), 0)
    assert metric.tables()["per class"]["cow"]["IoU"] == 0 and metric.compute()["mIoU"] == pytest.approx(0.25)


def test_unknown_pixels__are_ignored() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (20, 30)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.3] = 255
    metrics = []
    for seed in (1, 2):
        prediction = np.where(truth == 255, np.random.default_rng(seed).integers(0, 4, truth.shape), np.flip(truth, 1))
        metrics.append(SemanticMetric(NAMES))
        metrics[-1].update(make_map(prediction.tolist()), make_map(truth.tolist()), 0)
    assert metrics[0].compute() == metrics[1].compute()
    assert metrics[0].counts()["unknown pixels"] == (truth == 255).sum()


def test_nothing_known__is_undefined_and_counted() -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0, 1]]), make_map([[255, 255]]), 0)
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.counts()["images without a known pixel"] == 1 and metric.counts()["pixels"] == 0


def test_iou__is_over_the_pixels_of_all_images() -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0] * 9]), make_map([[0] * 9]), 0)
    metric.update(make_map([[1]]), make_map([[0]]), 1)
    assert metric.tables()["per class"]["sky"]["IoU"] == pytest.approx(0.9)


@pytest.mark.parametrize("multilabel", [False, True])
def test_merge__equals_one_accumulator(multilabel: bool) -> None:
    rng = np.random.default_rng(0)
    pairs = [[make_map(rng.integers(0, 4, (12, 9)).tolist(), multilabel) for _ in range(2)] for _ in range(4)]
    kind = MultilabelMetric if multilabel else SemanticMetric
    whole, *shards = (kind(NAMES) for _ in range(3))
    for index, pair in enumerate(pairs):
        whole.update(*pair, index)
        shards[index % 2].update(*pair, index)
    shards[1].merge(shards[0])
    assert shards[1].compute() == whole.compute() and shards[1].counts() == whole.counts()


def test_plots__draw_the_confusion_matrix(tmp_path: Path) -> None:
    metric = SemanticMetric(NAMES)
    metric.update(make_map([[0, 1, 2, 2]]), make_map([[0, 1, 1, 2]]), 0)
    metric.draw_plots(tmp_path)
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_multilabel__each_class_by_itself() -> None:
    metric = MultilabelMetric(NAMES)
    metric.update(make_map([[0b0011, 0b0001, 0]], True), make_map([[0b0001, 0b0001, 65535]], True), 0)
    rows = metric.tables()["per class"]
    assert rows["sky"]["IoU"] == 1 and rows["road"]["IoU"] == 0
    assert metric.compute()["aAcc"] == pytest.approx(7 / 8)
