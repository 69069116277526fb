"""COCO's metrics of boxes: perfect predictions, shards, tables, plots."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.results import Detections
from densevision.tasks.detection.metrics import DetectionMetric

NAMES = ("a", "b")


def record(boxes, labels, scores=None, **fields) -> Detections:
    scores = np.ones(len(boxes)) if scores is None else scores
    return Detections.from_arrays(boxes, labels, NAMES, (100, 100), scores=scores, **fields)


GROUND_TRUTHS = [
    record([[0, 0, 10, 10], [20, 20, 90, 90]], [0, 1]),
    record([], []),
    record([[5, 5, 6, 6], [0, 0, 80, 80]], [1, 0], crowd=np.array([False, True])),
]


def test_metric__is_exact_where_the_prediction_is_the_truth_in_any_order_and_shards():
    shards = [DetectionMetric(NAMES) for _ in range(2)]
    for number in (2, 0, 1):
        shards[number % 2].update(GROUND_TRUTHS[number], GROUND_TRUTHS[number], number)
    shards[1].merge(shards[0])
    metrics = shards[1].compute()
    assert metrics["AP"] == pytest.approx(1) and metrics["AR100"] == pytest.approx(1)
    assert shards[1].counts()["truths"] == 4


def test_metric__halves_the_class_that_is_half_detected():
    metric = DetectionMetric(NAMES)
    truth = record([[0, 0, 10, 10], [40, 40, 60, 60], [20, 20, 90, 90]], [0, 0, 1])
    metric.update(truth[[0, 2]], truth, 0)
    table = metric.tables()["per class"]
    assert table["b"]["AP"] == pytest.approx(1)
    assert table["a"]["AP50"] == pytest.approx(51 / 101)  # full precision up to a recall of one half
    assert metric.compute()["AP50"] == pytest.approx((1 + 51 / 101) / 2)


def test_metric__protocol():
    assert DetectionMetric(NAMES).protocol["max_detections"] == [1, 10, 100]


def test_plots__written_for_any_number_of_objects(tmp_path):
    for number, target_records in enumerate((GROUND_TRUTHS, GROUND_TRUTHS[1:2], [])):
        metric = DetectionMetric(NAMES)
        for position, truth in enumerate(target_records):
            metric.update(truth, truth, position)
        folder = tmp_path / str(number)
        folder.mkdir()
        metric.draw_plots(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "f1.png", "precision_recall.png"]
