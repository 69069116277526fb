"""Metrics of resampled images equal those of a dataset that repeats the images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.per_image import ImageSums, blank_mean, means, ratio, split_mean
from densevision.ops.masks import encode

NAMES = ("a", "b", "c")
COUNT = 12


def make_image(seed: int, ties: bool = False) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Prediction and ground truth of one image: absent classes, crowds, small and large objects, maybe equal scores."""
    rng = np.random.default_rng(seed)
    objects, detections = int(rng.integers(0, 6)), int(rng.integers(0, 12))
    corners = rng.uniform(0, 60, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.choice([9.0, 40, 110], (objects, 2))], 1)
    picked = rng.integers(0, max(objects, 1), detections)
    near = boxes[picked] if objects else np.tile([0.0, 0, 30, 30], (detections, 1))
    near = near + rng.normal(0, 3, (detections, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    labels = rng.integers(0, 2 + seed % 2, objects)
    predicted = np.where(rng.random(detections) < 0.8, labels[picked] if objects else 0, rng.integers(0, 3, detections))
    truth = make_record(boxes, np.ones(objects), labels, rng.random(objects) < 0.1)
    scores = rng.random(detections).round(1 if ties else 9)
    return make_record(near, scores, predicted, np.zeros(detections, bool)), truth


def make_record(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, crowd: np.ndarray) -> SimpleNamespace:
    masks = []
    for x1, y1, x2, y2 in boxes.astype(int).clip(0, 199):
        mask = np.zeros((200, 200), bool)
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
        masks.append(encode(mask))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return SimpleNamespace(
        size=(200, 200), boxes=boxes, scores=scores, labels=labels.astype(int), areas=areas, crowd=crowd, masks=masks
    )


def evaluate(numbers: list[int], iou_type: str = "bbox", ties: bool = False) -> AveragePrecision:
    metric = AveragePrecision(NAMES, iou_type)
    for image_id, number in enumerate(numbers):
        metric.update(*make_image(number, ties), image_id)
    return metric


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "boundary"])
def test_matches__repeated_images(iou_type: str) -> None:
    images = evaluate(list(range(COUNT)), iou_type).per_image()
    rng = np.random.default_rng(0)
    draws = [list(range(COUNT)), *(sorted(rng.integers(0, COUNT, COUNT).tolist()) for _ in range(4)), [3], [0, 0]]
    weights = np.array([np.bincount(draw, minlength=COUNT) for draw in draws])
    result = images.compute_weighted(weights)
    for row, draw in enumerate(draws):
        expected = evaluate(draw, iou_type).compute()
        assert list(result) == list(expected)
        values = [column[row] for column in result.values()]
        np.testing.assert_allclose(values, list(expected.values()), rtol=0, atol=1e-9, equal_nan=True)


def test_matches__all_images_once_with_equal_scores() -> None:
    metric = evaluate(list(range(40)), ties=True)
    once = metric.per_image().compute_weighted(np.ones((1, 40)))
    result = {name: values[0] for name, values in once.items()}
    np.testing.assert_allclose(list(result.values()), list(metric.compute().values()), rtol=0, atol=1e-12)


def test_matches__single_images() -> None:
    each = evaluate(list(range(COUNT))).per_image().compute_each()
    for number in range(COUNT):
        single = evaluate([number]).compute()
        for name in ("AP", "AP50", "AP75"):
            np.testing.assert_allclose(each[name][number], single[name], rtol=0, atol=1e-9)


def test_matches__no_images() -> None:
    result = AveragePrecision(NAMES).per_image().compute_weighted(np.ones((2, 0)))
    assert all(np.isnan(values).all() for values in result.values())


def test_sums__means_of_undefined_and_infinite_values() -> None:
    values = {"a": 30.0, "b": float("nan"), "c": float("inf")}
    rows = {image_id: split_mean({"PSNR": value}) for image_id, value in values.items()}
    images = ImageSums(rows, blank_mean(["PSNR"]), lambda sums: means(sums, ["PSNR"]))
    result = images.compute_weighted(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 2]]))["PSNR"]
    np.testing.assert_array_equal(result, [30, np.nan, np.inf])
    assert images.compute() == {"PSNR": np.inf}
    np.testing.assert_array_equal(images.compute_each()["PSNR"], [30, np.nan, np.inf])


def test_sums__order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows = {str(n): {"x": float(v), "n": 1} for n, v in enumerate(10.0 ** rng.uniform(-9, 9, 200))}
    shuffled = {image_id: rows[image_id] for image_id in rng.permutation(list(rows))}
    blank = {"x": 0.0, "n": 0}

    def formulas(sums):
        return {"mean": ratio(sums["x"], sums["n"])}

    assert ImageSums(rows, blank, formulas).compute() == ImageSums(shuffled, blank, formulas).compute()


def test_semantic_metric__all_images_and_a_resample() -> None:
    from densevision.results import SemanticMap
    from densevision.tasks.semantic.metrics import SemanticMetric

    def evaluate_maps(numbers: list[int]) -> SemanticMetric:
        metric = SemanticMetric(NAMES)
        for image_id, number in enumerate(numbers):
            rng = np.random.default_rng(number)
            sides = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
            sides[1, : number % 5] = 255
            metric.update(*(SemanticMap(labels=side, names=NAMES, size=side.shape) for side in sides), image_id)
        return metric

    single = evaluate_maps(list(range(6)))
    result = single.per_image().compute_weighted(np.array([[1, 1, 1, 1, 1, 1], [0, 2, 0, 0, 1, 0]]))
    for row, metric in enumerate((single, evaluate_maps([1, 1, 4]))):
        expected = metric.compute()
        assert {name: values[row] for name, values in result.items()} == pytest.approx(expected, abs=1e-12)
