"""COCO's metrics on cases with known results, and the invariants of accumulating and merging."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from densevision.errors import DataError, UsageError
from densevision.metrics.average_precision import AveragePrecision
from densevision.results import Detections

NAMES = ("cat", "dog")
SIZE = (100, 100)
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def boxes(*rows, labels=None, **more):
    return Detections.from_arrays(list(rows), labels or [0] * len(rows), NAMES, SIZE, **more)


def evaluate(prediction, truth):
    metric = AveragePrecision(NAMES)
    metric.update(prediction, truth, 1)
    return metric


def random_images(count, seed=0):
    rng = np.random.default_rng(seed)

    def draw_objects(number, **more):
        corners = rng.uniform(0, 80, (number, 2))
        rows = np.concatenate([corners, corners + rng.uniform(1, 60, (number, 2))], 1)
        return Detections.from_arrays(rows, rng.integers(0, 2, number), NAMES, SIZE, **more)

    images = []
    for image_id in range(count):
        truth = draw_objects(int(rng.integers(0, 6)))
        near = truth.boxes + rng.normal(0, 3, truth.boxes.shape)
        scores = rng.random(len(near)).round(1)
        images.append((Detections.from_arrays(near, truth.labels, NAMES, SIZE, scores=scores), truth, image_id))
    return images


def test_compute__prediction_equals_truth():
    truth = boxes((0, 0, 10, 10), (20, 20, 70, 70), labels=[0, 1])
    numbers = evaluate(truth, truth).compute()
    assert list(numbers) == METRICS
    assert numbers["AP"] == pytest.approx(1) and numbers["APs"] == pytest.approx(1) and numbers["AR1"] == 1
    assert math.isnan(numbers["APl"])


def test_compute__one_of_two_missed():
    truth = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    numbers = evaluate(truth[:1], truth).compute()
    assert numbers["AP"] == pytest.approx(51 / 101) and numbers["AR100"] == 0.5


def test_compute__false_positive_ranked_first():
    truth = boxes((0, 0, 10, 10))
    prediction = boxes((50, 50, 60, 60), (0, 0, 10, 10), scores=[0.9, 0.8])
    numbers = evaluate(prediction, truth).compute()
    assert numbers["AP"] == pytest.approx(0.5) and numbers["AR1"] == 0 and numbers["AR10"] == 1


def test_compute__iou_between_thresholds():
    numbers = evaluate(boxes((0, 0, 10, 6.2)), boxes((0, 0, 10, 10))).compute()
    assert numbers["AP"] == pytest.approx(0.3) and numbers["AP50"] == pytest.approx(1) and numbers["AP75"] == 0


def test_compute__crowd_is_neither_missed_nor_false_positive():
    truth = boxes((0, 0, 10, 10), (40, 40, 90, 90), crowd=np.array([False, True]))
    prediction = boxes((0, 0, 10, 10), (50, 50, 60, 60), (70, 70, 80, 80), scores=[0.5, 0.9, 0.8])
    assert evaluate(prediction, truth).compute()["AP"] == pytest.approx(1)


@pytest.mark.parametrize("prediction", [boxes(), boxes((0, 0, 10, 10))])
def test_compute__without_truth_is_nan(prediction):
    assert all(math.isnan(number) for number in evaluate(prediction, boxes()).compute().values())


def test_compute__without_images_or_classes_is_nan():
    for metric in (AveragePrecision(NAMES), AveragePrecision(())):
        assert all(math.isnan(number) for number in metric.compute().values())
        assert metric.counts()["truths"] == 0


def test_compute__without_predictions_is_zero():
    assert evaluate(boxes(), boxes((0, 0, 10, 10))).compute()["AP"] == 0


def test_compute__updates_after_compute_and_changed_arrays():
    truth, metric = boxes((0, 0, 10, 10)), AveragePrecision(NAMES)
    metric.update(truth, truth, "a")
    truth.boxes[:] = 0
    assert metric.compute()["AP"] == pytest.approx(1)
    metric.update(boxes(), boxes((0, 0, 10, 10)), "b")
    assert metric.compute()["AP"] == pytest.approx(51 / 101)


def test_per_class__mean_equals_headline_and_absent_class_is_nan():
    metric = AveragePrecision((*NAMES, "absent"))
    for image in random_images(20):
        metric.update(*image)
    rows, numbers = metric.per_class(), metric.compute()
    assert list(rows) == [*NAMES, "absent"] and math.isnan(rows["absent"]["AP"])
    for name in METRICS:
        defined = [row[name] for row in rows.values() if not math.isnan(row[name])]
        assert numbers[name] == pytest.approx(np.mean(defined), abs=1e-12) if defined else math.isnan(numbers[name])


@pytest.mark.parametrize("seed", range(3))
def test_merge__order_and_sharding_do_not_matter(seed):
    images = random_images(30)
    single = AveragePrecision(NAMES)
    for image in images:
        single.update(*image)

    rng = np.random.default_rng(seed)
    shards = [AveragePrecision(NAMES) for _ in range(3)]
    for index in rng.permutation(len(images)):
        shards[rng.integers(3)].update(*images[index])
    first, *others = [pickle.loads(pickle.dumps(shards[index])) for index in rng.permutation(3)]
    for other in others:
        first.merge(other)
    np.testing.assert_equal(first.compute(), single.compute())
    assert first.counts() == single.counts() and 0.1 < single.compute()["AP"] < 0.9


def test_merge__other_classes():
    with pytest.raises(UsageError):
        AveragePrecision(NAMES).merge(AveragePrecision(("cow",)))


def test_update__same_image_twice():
    metric = evaluate(boxes(), boxes())
    with pytest.raises(DataError):
        metric.update(boxes(), boxes(), 1)
    with pytest.raises(DataError):
        metric.merge(evaluate(boxes(), boxes()))


@pytest.mark.parametrize(
    "prediction",
    [
        boxes((0, 0, float("nan"), 1)),
        boxes((0, 0, 1, 1), scores=[float("nan")]),
        boxes((0, 0, 1, 1), labels=[2]),
    ],
)
def test_update__invalid_prediction(prediction):
    with pytest.raises(DataError):
        evaluate(prediction, boxes())


def test_init__unknown_iou_type():
    with pytest.raises(UsageError, match="Did you mean 'bbox'"):
        AveragePrecision(NAMES, "box")


def test_counts__objects_predictions_and_crowds():
    metric = evaluate(boxes((0, 0, 1, 1)), boxes((0, 0, 1, 1), (0, 0, 9, 9), crowd=np.array([False, True])))
    metric.update(boxes(), boxes(), 2)
    assert metric.counts() == {
        "truths": 2,
        "crowd": 1,
        "predictions": 1,
        "images without objects": 1,
        "images without predictions": 1,
    }


def test_curves__precision_up_to_the_reached_recall():
    truth = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    prediction = boxes((0, 0, 10, 10), (80, 80, 90, 90), scores=[0.75, 0.5])
    curves = evaluate(prediction, truth).curves()
    assert curves.recall[[0, 50, 100]] == pytest.approx([0, 0.5, 1])
    np.testing.assert_allclose(curves.precision[0], [1] * 51 + [0] * 50)
    assert np.isnan(curves.precision[1]).all()
    # One true positive and two ground truths at scores above 0.75: precision 1, recall 1/2.
    np.testing.assert_allclose(curves.f1(np.array([0.9, 0.75, 0.6, 0]))[0], [0, 2 / 3, 2 / 3, 2 / 3])
    assert np.isnan(curves.f1(np.array([0.5]))[1]).all()


def test_import__needs_no_torch():
    modules = "densevision.metrics.coco_files, densevision.metrics.box_confusion"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
