"""Intervals and paired differences against the normal approximation, hotcoco, and known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.bootstrap import compare_paired, compute_intervals
from densevision.metrics.per_image import ImageSums, blank_mean, means, split_mean


def build_stats(values: np.ndarray, prefix: str = "") -> ImageSums:
    rows = {f"{prefix}{n:04}": split_mean({"x": float(value)}) for n, value in enumerate(values)}
    return ImageSums(rows, blank_mean(["x"]), lambda sums: means(sums, ["x"]))


def test_intervals__mean_matches_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    span = compute_intervals(build_stats(values), draws=4000)["x"]
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert span.low == pytest.approx(values.mean() - half, abs=0.02)
    assert span.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals__coverage() -> None:
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        span = compute_intervals(build_stats(rng.exponential(1, 60)), draws=300, seed=trial)["x"]
        covered += span.low <= 1 <= span.high
    assert 0.88 < covered / 200 < 0.98


def test_intervals__seeds_and_single_image() -> None:
    stats = build_stats(np.arange(9.0))
    assert compute_intervals(stats, seed=4) == compute_intervals(stats, seed=4) != compute_intervals(stats, seed=5)
    assert all(math.isnan(end) for end in compute_intervals(build_stats(np.ones(1)))["x"])


def test_intervals__metric_defined_by_one_image() -> None:
    one, two = (np.full(16, math.nan) for _ in range(2))
    one[3], two[3], two[7] = 25.0, 25.0, 27.0
    assert all(math.isnan(end) for end in compute_intervals(build_stats(one))["x"])
    assert tuple(compute_intervals(build_stats(two))["x"]) == (25, 27)


def test_compare__cancels_image_difficulty() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 200)
    baseline, candidate = build_stats(hard), build_stats(hard + 0.5 + rng.normal(0, 0.5, 200))
    difference = compare_paired(baseline, candidate)["x"]
    assert difference.change == pytest.approx(difference.candidate - difference.baseline)
    assert difference.is_significant and difference.positive_share == 1
    # Unpaired, ten times the noise would hide the change.
    assert difference.interval.high - difference.interval.low < 0.2
    assert compute_intervals(baseline)["x"].high - compute_intervals(baseline)["x"].low > 2


def test_compare__equal_sides() -> None:
    same = build_stats(np.array([1.0, math.inf, 2.0, math.nan]))
    difference = compare_paired(same, same)["x"]
    assert not difference.is_significant and not difference.change > 0
    plain = build_stats(np.array([1.0, 5.0, 2.0]))
    difference = compare_paired(plain, plain)["x"]
    assert (difference.change, *difference.interval, difference.positive_share) == (0, 0, 0, 0.5)


def test_compare__different_images() -> None:
    with pytest.raises(DataError):
        compare_paired(build_stats(np.ones(3)), build_stats(np.ones(3), "b"))


@pytest.mark.parity
def test_compare__boxes_equal_hotcoco() -> None:
    import hotcoco

    from densevision.metrics.average_precision import AveragePrecision
    from densevision.metrics.coco_protocol import match_predictions
    from densevision.results import Detections

    rng, sides, metrics = np.random.default_rng(0), ([], []), [AveragePrecision(["a", "b"]) for _ in range(2)]
    images, target_records = [], []
    for number in range(1, 61):
        corners = rng.uniform(0, 100, (4, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 60, (4, 2))], 1)
        truth = Detections.from_arrays(boxes, rng.integers(0, 2, 4), ("a", "b"), (200, 200))
        images.append({"id": number, "height": 200, "width": 200})
        target_records += [(number, label + 1, box) for label, box in zip(truth.labels, truth.boxes)]
        for side, metric, noise in zip(sides, metrics, (4.0, 2.5)):
            moved = truth.boxes + rng.normal(0, noise, (4, 4)).astype(np.float32)
            prediction = Detections.from_arrays(moved, truth.labels, truth.names, truth.size, scores=rng.random(4))
            metric.update(prediction, truth, f"{number:03}")
            entries = prediction.to_coco(number)
            side += [(number, *entry["bbox"], entry["score"], entry["category_id"]) for entry in entries]
    numbers, labels, boxes = (np.array(column) for column in zip(*target_records))
    sizes = boxes[:, 2:] - boxes[:, :2]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    xywh = np.concatenate([boxes[:, :2], sizes], 1).astype(np.float64)
    dataset = hotcoco.COCO.from_arrays(images, categories, numbers, labels, xywh, area=xywh[:, 2] * xywh[:, 3])
    evaluations = [match_predictions(dataset, dataset.load_res(np.array(side, np.float64))) for side in sides]
    for evaluation in evaluations:
        evaluation.accumulate()
    reference = hotcoco.compare(*evaluations, n_bootstrap=1000, seed=0)
    difference = compare_paired(*(metric.per_image() for metric in metrics))
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert difference[name].change == pytest.approx(reference["deltas"][name], abs=1e-9)
        # Other random draws: the ends agree within the sampling error of a thousand draws.
        span = difference[name].interval
        assert span.low == pytest.approx(reference["ci"][name]["lower"], abs=0.02)
        assert span.high == pytest.approx(reference["ci"][name]["upper"], abs=0.02)
