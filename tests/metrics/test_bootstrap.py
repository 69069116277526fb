"""Intervals and paired differences, beside the normal law, hotcoco, and cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.bootstrap import compare, intervals
from densevision.metrics.per_image import Sums, blank_mean, means, split_mean


def images(values: np.ndarray, prefix: str = "") -> Sums:
    rows = {f"{prefix}{n:04}": split_mean({"x": float(value)}) for n, value in enumerate(values)}
    return Sums(rows, blank_mean(["x"]), lambda sums: means(sums, ["x"]))


def test_intervals__of_a_mean_are_those_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    span = intervals(images(values), draws=4000)["x"]
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert span.low == pytest.approx(values.mean() - half, abs=0.02)
    assert span.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals__hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(1), 0
    for trial in range(200):
        span = intervals(images(rng.exponential(1, 60)), draws=300, seed=trial)["x"]
        held += span.low <= 1 <= span.high
    assert 0.88 < held / 200 < 0.98


def test_intervals__same_seed_same_numbers_and_one_image_has_none() -> None:
    some = images(np.arange(9.0))
    assert intervals(some, seed=4) == intervals(some, seed=4) != intervals(some, seed=5)
    assert all(math.isnan(end) for end in intervals(images(np.ones(1)))["x"])


def test_intervals__what_a_single_image_defines_has_none() -> None:
    one, two = (np.full(16, math.nan) for _ in range(2))
    one[3], two[3], two[7] = 25.0, 25.0, 27.0
    assert all(math.isnan(end) for end in intervals(images(one))["x"])
    assert tuple(intervals(images(two))["x"]) == (25, 27)


def test_compare__pairs_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 200)
    one, other = images(hard), images(hard + 0.5 + rng.normal(0, 0.5, 200))
    found = compare(one, other)["x"]
    assert found.change == pytest.approx(found.other - found.one) and found.certain and found.above == 1
    # Unpaired, ten times the noise would hide the change.
    assert found.interval.high - found.interval.low < 0.2
    assert intervals(one)["x"].high - intervals(one)["x"].low > 2


def test_compare__nothing_changed() -> None:
    same = images(np.array([1.0, math.inf, 2.0, math.nan]))
    found = compare(same, same)["x"]
    assert not found.certain and not found.change > 0
    plain = images(np.array([1.0, 5.0, 2.0]))
    found = compare(plain, plain)["x"]
    assert (found.change, *found.interval, found.above) == (0, 0, 0, 0.5)


def test_compare__other_images_are_refused() -> None:
    with pytest.raises(DataError, match="different images"):
        compare(images(np.ones(3)), images(np.ones(3), "b"))


@pytest.mark.parity
def test_compare__boxes_equal_hotcoco() -> None:
    import hotcoco

    from densevision.metrics.average_precision import AveragePrecision
    from densevision.metrics.coco_protocol import matched
    from densevision.results import Detections

    rng, sides, metrics = np.random.default_rng(0), ([], []), [AveragePrecision(["a", "b"]) for _ in range(2)]
    images, ground_truths = [], []
    for number in range(1, 61):
        corners = rng.uniform(0, 100, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 60, (4, 2))], 1)
        truth = Detections.of(boxes, rng.integers(0, 2, 4), ("a", "b"), (200, 200))
        images.append({"id": number, "height": 200, "width": 200})
        ground_truths += [(number, label + 1, box) for label, box in zip(truth.labels, truth.boxes)]
        for side, metric, noise in zip(sides, metrics, (4.0, 2.5)):
            moved = truth.boxes + rng.normal(0, noise, (4, 4)).astype(np.float32)
            answer = Detections.of(moved, truth.labels, truth.names, truth.size, scores=rng.random(4))
            metric.update(answer, truth, f"{number:03}")
            side += [(number, *entry["bbox"], entry["score"], entry["category_id"]) for entry in answer.to_coco(number)]
    numbers, labels, boxes = (np.array(column) for column in zip(*ground_truths))
    sizes = boxes[:, 2:] - boxes[:, :2]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    xywh = np.concatenate([boxes[:, :2], sizes], 1).astype(np.float64)
    told = hotcoco.COCO.from_arrays(images, categories, numbers, labels, xywh, area=xywh[:, 2] * xywh[:, 3])
    evaluations = [matched(told, told.load_res(np.array(side, np.float64))) for side in sides]
    for evaluation in evaluations:
        evaluation.accumulate()
    theirs = hotcoco.compare(*evaluations, n_bootstrap=1000, seed=0)
    found = compare(*(metric.per_image() for metric in metrics))
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert found[name].change == pytest.approx(theirs["deltas"][name], abs=1e-9)
        # Other random draws: the ends agree as far as a thousand of them can tell.
        span = found[name].interval
        assert span.low == pytest.approx(theirs["ci"][name]["lower"], abs=0.02)
        assert span.high == pytest.approx(theirs["ci"][name]["upper"], abs=0.02)
