"""Numbers of any choice of images equal those of a dataset in which the images are there so often."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.per_image import Sums, blank_mean, means, ratio, split_mean
from densevision.ops.masks import encode

NAMES = ("a", "b", "c")
COUNT = 12


def image(seed: int, ties: bool = False) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Answer and truth of one image: some classes absent, a crowd, perhaps equal scores, small and large."""
    rng = np.random.default_rng(seed)
    many, found = int(rng.integers(0, 6)), int(rng.integers(0, 12))
    corners = rng.uniform(0, 60, (many, 2))
    boxes = np.concatenate([corners, corners + rng.choice([9.0, 40, 110], (many, 2))], 1)
    picked = rng.integers(0, max(many, 1), found)
    near = (boxes[picked] if many else np.tile([0.0, 0, 30, 30], (found, 1))) + rng.normal(0, 3, (found, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    labels = rng.integers(0, 2 + seed % 2, many)
    said = np.where(rng.random(found) < 0.8, labels[picked] if many else 0, rng.integers(0, 3, found))
    truth = record(boxes, np.ones(many), labels, rng.random(many) < 0.1)
    return record(near, rng.random(found).round(1 if ties else 9), said, np.zeros(found, bool)), truth


def record(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, crowd: np.ndarray) -> SimpleNamespace:
    masks = []
    for x1, y1, x2, y2 in boxes.astype(int).clip(0, 199):
        mask = np.zeros((200, 200), bool)
        mask[y1 : y2 + 1, x1 : x2 + 1] = True
        masks.append(encode(mask))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return SimpleNamespace(
        size=(200, 200), boxes=boxes, scores=scores, labels=labels.astype(int), areas=areas, crowd=crowd, masks=masks
    )


def judged(numbers: list[int], iou_type: str = "bbox", ties: bool = False) -> AveragePrecision:
    metric = AveragePrecision(NAMES, iou_type)
    for place, number in enumerate(numbers):
        metric.update(*image(number, ties), place)
    return metric


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "boundary"])
def test_matches__of_repeated_images_equal_a_dataset_that_repeats_them(iou_type: str) -> None:
    images = judged(list(range(COUNT)), iou_type).per_image()
    rng = np.random.default_rng(0)
    draws = [list(range(COUNT)), *(sorted(rng.integers(0, COUNT, COUNT).tolist()) for _ in range(4)), [3], [0, 0]]
    weights = np.array([np.bincount(draw, minlength=COUNT) for draw in draws])
    found = images.numbers(weights)
    for row, draw in enumerate(draws):
        wanted = judged(draw, iou_type).compute()
        assert list(found) == list(wanted)
        mine = [values[row] for values in found.values()]
        np.testing.assert_allclose(mine, list(wanted.values()), rtol=0, atol=1e-9, equal_nan=True)


def test_matches__of_all_images_once_are_the_dataset_even_with_equal_scores() -> None:
    metric = judged(list(range(40)), ties=True)
    once = metric.per_image().numbers(np.ones((1, 40)))
    found = {name: values[0] for name, values in once.items()}
    np.testing.assert_allclose(list(found.values()), list(metric.compute().values()), rtol=0, atol=1e-12)


def test_matches__of_one_image_are_its_own_numbers() -> None:
    each = judged(list(range(COUNT))).per_image().each()
    for number in range(COUNT):
        alone = judged([number]).compute()
        for name in ("AP", "AP50", "AP75"):
            np.testing.assert_allclose(each[name][number], alone[name], rtol=0, atol=1e-9)


def test_matches__without_images_define_nothing() -> None:
    assert all(
        np.isnan(values).all() for values in AveragePrecision(NAMES).per_image().numbers(np.ones((2, 0))).values()
    )


def test_sums__means_leave_out_what_is_not_defined_and_keep_what_is_endless() -> None:
    values = {"a": 30.0, "b": float("nan"), "c": float("inf")}
    rows = {id: split_mean({"PSNR": value}) for id, value in values.items()}
    images = Sums(rows, blank_mean(["PSNR"]), lambda sums: means(sums, ["PSNR"]))
    found = images.numbers(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 2]]))["PSNR"]
    np.testing.assert_array_equal(found, [30, np.nan, np.inf])
    assert images.compute() == {"PSNR": np.inf}
    np.testing.assert_array_equal(images.each()["PSNR"], [30, np.nan, np.inf])


def test_sums__totals_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    rows = {str(n): {"x": float(v), "n": 1} for n, v in enumerate(10.0 ** rng.uniform(-9, 9, 200))}
    shuffled = {id: rows[id] for id in rng.permutation(list(rows))}
    blank = {"x": 0.0, "n": 0}

    def formulas(sums):
        return {"mean": ratio(sums["x"], sums["n"])}

    assert Sums(rows, blank, formulas).compute() == Sums(shuffled, blank, formulas).compute()


def test_class_maps__all_images_once_are_the_confusion_and_some_are_a_dataset_of_them() -> None:
    from densevision.results import SemanticMap
    from densevision.tasks.semantic.metrics import SemanticMetric

    def judged_maps(numbers: list[int]) -> SemanticMetric:
        metric = SemanticMetric(NAMES)
        for place, number in enumerate(numbers):
            rng = np.random.default_rng(number)
            sides = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
            sides[1, : number % 5] = 255
            metric.update(*(SemanticMap(labels=side, names=NAMES, size=side.shape) for side in sides), place)
        return metric

    whole = judged_maps(list(range(6)))
    found = whole.per_image().numbers(np.array([[1, 1, 1, 1, 1, 1], [0, 2, 0, 0, 1, 0]]))
    for row, metric in enumerate((whole, judged_maps([1, 1, 4]))):
        wanted = metric.compute()
        assert {name: values[row] for name, values in found.items()} == pytest.approx(wanted, abs=1e-12)
