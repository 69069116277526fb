"""The confusion matrix of boxes against hand-made cases, hotcoco, and a plain loop for crowds."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.errors import UsageError
from densevision.metrics.box_confusion import BoxConfusion
from densevision.results import Detections

NAMES = ("cat", "dog", "cow")
SIZE = (100, 100)


def record(rows, labels, **more):
    return Detections.from_arrays(rows, labels, NAMES, SIZE, **more)


def random_image(rng, crowds=True):
    def draw_boxes(number):
        corners = rng.uniform(0, 60, (number, 2))
        return np.concatenate([corners, corners + rng.uniform(5, 40, (number, 2))], 1)

    objects, extra = int(rng.integers(0, 7)), int(rng.integers(0, 5))
    crowd = (rng.random(objects) < 0.3) & crowds
    truth = record(draw_boxes(objects), rng.integers(0, 3, objects), crowd=crowd)
    near = np.concatenate([truth.boxes, truth.boxes]) + rng.normal(0, 3, (2 * objects, 4))
    labels = np.concatenate([truth.labels, rng.integers(0, 3, objects + extra)])
    # Distinct scores, because hotcoco's order of equal ones is undefined.
    scores = rng.permutation(len(labels)) / (len(labels) + 1)
    return record(np.concatenate([near, draw_boxes(extra)]), labels, scores=scores), truth


def iou(a, b, crowd):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (areas[0] if crowd else sum(areas) - shared)


def count_in_loop(prediction, truth, iou_threshold, score_threshold):
    """The same rules, one box at a time."""
    matrix, taken = np.zeros((4, 4), int), set()
    for index in sorted(range(len(prediction)), key=lambda index: -prediction.scores[index]):
        if prediction.scores[index] < score_threshold:
            continue
        box, label, best = prediction.boxes[index].astype(float), prediction.labels[index], (iou_threshold, None)
        ignored = False
        for number in range(len(truth)):
            overlap = iou(box, truth.boxes[number].astype(float), truth.crowd[number])
            if truth.crowd[number]:
                ignored |= truth.labels[number] == label and overlap >= iou_threshold
            elif number not in taken and overlap >= best[0]:
                best = (overlap, number)
        if best[1] is not None:
            taken.add(best[1])
            matrix[truth.labels[best[1]], label] += 1
        elif not ignored:
            matrix[3, label] += 1
    for number in range(len(truth)):
        if number not in taken and not truth.crowd[number]:
            matrix[truth.labels[number], 3] += 1
    return matrix


def test_update__one_of_each_case():
    truth = record([(0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)], [0, 0, 2])
    rows = [(0, 0, 10, 9), (20, 20, 30, 30), (80, 80, 90, 90), (50, 50, 60, 60)]
    confusion = BoxConfusion(NAMES)
    confusion.update(record(rows, [0, 1, 1, 2], scores=[0.9, 0.8, 0.7, 0.2]), truth)
    assert confusion.matrix.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_update__crowd_ignores_its_class_and_is_never_missed():
    truth = record([(0, 0, 90, 90)], [0], crowd=np.array([True]))
    confusion = BoxConfusion(NAMES)
    confusion.update(record([(5, 5, 10, 10), (20, 20, 30, 30), (40, 40, 50, 50)], [0, 0, 1]), truth)
    assert confusion.matrix.sum() == 1 and confusion.matrix[3, 1] == 1


def test_update__empty_images():
    confusion, empty = BoxConfusion(NAMES), record([], [])
    confusion.update(empty, empty)
    confusion.update(empty, record([(0, 0, 5, 5)], [1]))
    confusion.update(record([(0, 0, 5, 5)], [2]), empty)
    assert confusion.matrix[1, 3] == confusion.matrix[3, 2] == 1 and confusion.matrix.sum() == 2


def test_update__equals_plain_loop():
    rng = np.random.default_rng(0)
    confusion, expected = BoxConfusion(NAMES, iou=0.6, score_threshold=0.2), np.zeros((4, 4), int)
    for _ in range(200):
        prediction, truth = random_image(rng)
        confusion.update(prediction, truth)
        expected += count_in_loop(prediction, truth, 0.6, 0.2)
    np.testing.assert_array_equal(confusion.matrix, expected)
    assert (np.delete(confusion.matrix.ravel(), 15) > 0).all()


@pytest.mark.parity
def test_update__equals_hotcoco_without_crowds():
    hotcoco = pytest.importorskip("hotcoco")
    rng = np.random.default_rng(1)
    for _ in range(50):
        prediction, truth = random_image(rng, crowds=False)
        confusion = BoxConfusion(NAMES, score_threshold=0.3)
        confusion.update(prediction, truth)

        def xywh(boxes):
            return np.concatenate([boxes[:, :2], boxes[:, 2:].astype(float) - boxes[:, :2]], 1)

        classes = [{"id": k, "name": name} for k, name in enumerate(NAMES)]
        ones = np.ones(len(truth), int)
        objects = hotcoco.COCO.from_arrays([{"id": 1}], classes, ones, truth.labels, xywh(truth.boxes))
        columns = np.ones(len(prediction)), xywh(prediction.boxes), prediction.scores.astype(float), prediction.labels
        evaluation = hotcoco.COCOeval(objects, objects.load_res(np.column_stack(columns)), "bbox")
        expected = evaluation.confusion_matrix(iou_thr=0.5, min_score=0.3)["matrix"]
        np.testing.assert_array_equal(confusion.matrix, expected)


def test_merge__equals_single_accumulator():
    rng = np.random.default_rng(2)
    images = [random_image(rng) for _ in range(20)]
    single, *parts = (BoxConfusion(NAMES) for _ in range(3))
    for index, image in enumerate(images):
        single.update(*image)
        parts[index % 2].update(*image)
    parts[0].merge(parts[1])
    np.testing.assert_array_equal(parts[0].matrix, single.matrix)


def test_merge__other_thresholds():
    with pytest.raises(UsageError):
        BoxConfusion(NAMES).merge(BoxConfusion(NAMES, iou=0.7))
