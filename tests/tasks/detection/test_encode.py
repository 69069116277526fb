"""decode(encode(truth)) is truth."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.ops.view import View
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.tasks.detection import postprocess as decode
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.ideal_outputs import encode

CONFIG = DetectionConfig(classes=("a", "b", "c"))


def truth(boxes, labels=None, size=(128, 160), **more) -> Detections:
    return Detections.of(boxes, [0] * len(boxes) if labels is None else labels, CONFIG.classes, size, **more)


def again(*ground_truths: Detections) -> list[Detections]:
    outputs = encode(ground_truths, len(CONFIG.classes), CONFIG.bins)
    views = [View(one.size, one.size) for one in ground_truths]
    return decode.results(decode.answers(outputs, PredictOptions(), CONFIG), views, CONFIG)


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(found) == len(expected)
    orders = [np.lexsort((*one.boxes.round(1).T, one.labels)) for one in (found, expected)]
    (one, other) = (record[order] for record, order in zip((found, expected), orders))
    assert np.abs(one.boxes - other.boxes).max(initial=0) < 0.01
    assert np.array_equal(one.labels, other.labels)
    assert np.allclose(one.scores, 1)


CASES = {
    "none": [],
    "one pixel": [[3, 3, 4, 4]],
    "one pixel in each corner": [[0, 0, 1, 1], [159, 0, 160, 1], [0, 127, 1, 128], [159, 127, 160, 128]],
    "less than a pixel between anchor points": [[7.9, 7.9, 8.1, 8.2]],
    "fractions": [[10.37, 20.11, 99.83, 77.77]],
    "the whole canvas": [[0, 0, 160, 128]],
    "a line": [[0, 40, 160, 41.5]],
    "same center": [[60, 60, 70, 70], [50, 50, 80, 80], [30, 30, 100, 100]],
    "several in one cell": [[x, y, x + 1, y + 1] for x in (34, 36) for y in (33, 35, 38)],
}


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES.keys())
def test_decode_encode__gives_the_truth(boxes):
    expected = truth(boxes)
    assert_same(again(expected)[0], expected)


def test_decode_encode__gives_the_truth_of_random_scenes():
    rng = np.random.default_rng(0)
    records = []
    for _ in range(8):
        corner = rng.random((12, 2)) * (150, 118)
        boxes = np.concatenate([corner, corner + rng.random((12, 2)) ** 3 * 120 + 0.5], 1).clip(0, (160, 128) * 2)
        records.append(truth(boxes, np.arange(12) % 3))
    for found, expected in zip(again(*records), records):
        assert_same(found, expected)


def test_decode_encode__gives_boxes_as_large_as_a_large_canvas():
    expected = truth([[0, 0, 800, 640]], size=(640, 800))
    assert_same(again(expected)[0], expected)


def test_decode_encode__leaves_crowds_out():
    mixed = truth([[0, 0, 100, 100], [20, 20, 50, 60]], [0, 0], crowd=np.array([True, False]))
    assert_same(again(mixed)[0], truth([[20, 20, 50, 60]]))


def test_encode__of_an_unknown_image_is_silent():
    outputs = encode([None, truth([[1, 1, 9, 9]])], 3, CONFIG.bins)
    assert (outputs["logits"][0] < 0).all()
    assert (outputs["logits"][1] > 0).sum() == 1


def test_encode__works_on_sizes_that_no_stride_divides():
    expected = truth([[0, 0, 33, 1], [90, 50, 97, 61]], size=(61, 97))
    assert_same(again(expected)[0], expected)
