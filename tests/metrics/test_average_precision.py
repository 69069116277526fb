"""COCO's numbers on cases whose answers are known, and what accumulating and merging must keep."""

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
    return Detections.of(list(rows), labels or [0] * len(rows), NAMES, SIZE, **more)


def scored(answer, truth):
    metric = AveragePrecision(NAMES)
    metric.update(answer, truth, 1)
    return metric


def random_images(count, seed=0):
    rng = np.random.default_rng(seed)

    def some(number, **more):
        corners = rng.uniform(0, 80, (number, 2))
        rows = np.concatenate([corners, corners + rng.uniform(1, 60, (number, 2))], 1)
        return Detections.of(rows, rng.integers(0, 2, number), NAMES, SIZE, **more)

    images = []
    for id in range(count):
        truth = some(int(rng.integers(0, 6)))
        near = truth.boxes + rng.normal(0, 3, truth.boxes.shape)
        scores = rng.random(len(near)).round(1)
        images.append((Detections.of(near, truth.labels, NAMES, SIZE, scores=scores), truth, id))
    return images


def test_compute__truth_as_answer_is_perfect():
    truth = boxes((0, 0, 10, 10), (20, 20, 70, 70), labels=[0, 1])
    numbers = scored(truth, truth).compute()
    assert list(numbers) == METRICS
    assert numbers["AP"] == pytest.approx(1) and numbers["APs"] == pytest.approx(1) and numbers["AR1"] == 1
    assert math.isnan(numbers["APl"])


def test_compute__one_of_two_missed_reaches_half_the_recall_points():
    truth = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    numbers = scored(truth[:1], truth).compute()
    assert numbers["AP"] == pytest.approx(51 / 101) and numbers["AR100"] == 0.5


def test_compute__false_alarm_ranked_first_halves_precision():
    truth = boxes((0, 0, 10, 10))
    answer = boxes((50, 50, 60, 60), (0, 0, 10, 10), scores=[0.9, 0.8])
    numbers = scored(answer, truth).compute()
    assert numbers["AP"] == pytest.approx(0.5) and numbers["AR1"] == 0 and numbers["AR10"] == 1


def test_compute__counts_the_thresholds_that_the_overlap_reaches():
    numbers = scored(boxes((0, 0, 10, 6.2)), boxes((0, 0, 10, 10))).compute()
    assert numbers["AP"] == pytest.approx(0.3) and numbers["AP50"] == pytest.approx(1) and numbers["AP75"] == 0


def test_compute__crowd_is_neither_missed_nor_a_false_alarm():
    truth = boxes((0, 0, 10, 10), (40, 40, 90, 90), crowd=np.array([False, True]))
    answer = boxes((0, 0, 10, 10), (50, 50, 60, 60), (70, 70, 80, 80), scores=[0.5, 0.9, 0.8])
    assert scored(answer, truth).compute()["AP"] == pytest.approx(1)


@pytest.mark.parametrize("answer", [boxes(), boxes((0, 0, 10, 10))])
def test_compute__without_truth_is_nan(answer):
    assert all(math.isnan(number) for number in scored(answer, boxes()).compute().values())


def test_compute__without_images_or_classes_is_nan():
    for metric in (AveragePrecision(NAMES), AveragePrecision(())):
        assert all(math.isnan(number) for number in metric.compute().values())
        assert metric.counts()["truths"] == 0


def test_compute__without_predictions_is_zero():
    assert scored(boxes(), boxes((0, 0, 10, 10))).compute()["AP"] == 0


def test_compute__sees_images_that_come_later_and_not_what_becomes_of_the_arrays():
    truth, metric = boxes((0, 0, 10, 10)), AveragePrecision(NAMES)
    metric.update(truth, truth, "a")
    truth.boxes[:] = 0
    assert metric.compute()["AP"] == pytest.approx(1)
    metric.update(boxes(), boxes((0, 0, 10, 10)), "b")
    assert metric.compute()["AP"] == pytest.approx(51 / 101)


def test_per_class__mean_is_the_headline_and_absent_class_is_nan():
    metric = AveragePrecision((*NAMES, "absent"))
    for image in random_images(20):
        metric.update(*image)
    rows, numbers = metric.per_class(), metric.compute()
    assert list(rows) == [*NAMES, "absent"] and math.isnan(rows["absent"]["AP"])
    for name in METRICS:
        known = [row[name] for row in rows.values() if not math.isnan(row[name])]
        assert numbers[name] == pytest.approx(np.mean(known), abs=1e-12) if known else math.isnan(numbers[name])


@pytest.mark.parametrize("seed", range(3))
def test_merge__neither_order_nor_sharding_changes_a_bit(seed):
    images = random_images(30)
    whole = AveragePrecision(NAMES)
    for image in images:
        whole.update(*image)

    rng = np.random.default_rng(seed)
    shards = [AveragePrecision(NAMES) for _ in range(3)]
    for index in rng.permutation(len(images)):
        shards[rng.integers(3)].update(*images[index])
    first, *others = [pickle.loads(pickle.dumps(shards[index])) for index in rng.permutation(3)]
    for other in others:
        first.merge(other)
    np.testing.assert_equal(first.compute(), whole.compute())
    assert first.counts() == whole.counts() and 0.1 < whole.compute()["AP"] < 0.9


def test_merge__other_classes_are_refused():
    with pytest.raises(UsageError, match="other classes"):
        AveragePrecision(NAMES).merge(AveragePrecision(("cow",)))


def test_update__the_same_image_twice_is_refused():
    metric = scored(boxes(), boxes())
    with pytest.raises(DataError, match="judged twice"):
        metric.update(boxes(), boxes(), 1)
    with pytest.raises(DataError, match="judged twice"):
        metric.merge(scored(boxes(), boxes()))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (boxes((0, 0, float("nan"), 1)), "box is not finite"),
        (boxes((0, 0, 1, 1), scores=[float("nan")]), "score is not finite"),
        (boxes((0, 0, 1, 1), labels=[2]), "label has no class"),
    ],
)
def test_update__impossible_answer_is_refused(answer, problem):
    with pytest.raises(DataError, match=problem):
        scored(answer, boxes())


def test_init__unknown_overlap_is_refused():
    with pytest.raises(UsageError, match="Did you mean 'bbox'"):
        AveragePrecision(NAMES, "box")


def test_counts__tell_what_the_numbers_rest_on():
    metric = scored(boxes((0, 0, 1, 1)), boxes((0, 0, 1, 1), (0, 0, 9, 9), crowd=np.array([False, True])))
    metric.update(boxes(), boxes(), 2)
    assert metric.counts() == {
        "truths": 2,
        "crowd": 1,
        "predictions": 1,
        "images without objects": 1,
        "images without predictions": 1,
    }


def test_curves__hold_precision_up_to_the_recall_reached():
    truth = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    answer = boxes((0, 0, 10, 10), (80, 80, 90, 90), scores=[0.75, 0.5])
    curves = scored(answer, truth).curves()
    assert curves.recall[[0, 50, 100]] == pytest.approx([0, 0.5, 1])
    np.testing.assert_allclose(curves.precision[0], [1] * 51 + [0] * 50)
    assert np.isnan(curves.precision[1]).all()
    # One hit of one prediction and two truths above 0.75: precision 1, recall 1/2.
    np.testing.assert_allclose(curves.f1(np.array([0.9, 0.75, 0.6, 0]))[0], [0, 2 / 3, 2 / 3, 2 / 3])
    assert np.isnan(curves.f1(np.array([0.5]))[1]).all()


def test_import__needs_no_torch():
    modules = "densevision.metrics.coco_files, densevision.metrics.box_confusion"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
