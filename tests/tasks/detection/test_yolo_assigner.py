"""Task-aligned assignment: a case computed by hand, and invariants on random cases."""

from __future__ import annotations

import pytest
import torch

from densevision.datasets.targets import stack_object_targets
from densevision.ops.boxes import anchor_points, inside, pairwise_iou
from densevision.results import Detections
from densevision.tasks.detection.models.yolo import STRIDES
from densevision.tasks.detection.models.yolo_loss import Assignment, TaskAlignedAssigner

SIDE, CLASSES = 32, 2
ANCHORS = anchor_points([torch.empty(1, 1, SIDE // stride, SIDE // stride) for stride in STRIDES], STRIDES)


def assign(scores: torch.Tensor, boxes: torch.Tensor, records: list[Detections | None], **options) -> Assignment:
    return TaskAlignedAssigner(**options)(scores, boxes, ANCHORS, stack_object_targets(records))


def truth(boxes, labels=None, crowd=None, side: int = SIDE) -> Detections:
    labels = [0] * len(boxes) if labels is None else labels
    crowd = torch.tensor(crowd if crowd is not None else [False] * len(boxes), dtype=torch.bool).numpy()
    return Detections.from_arrays(boxes, labels, ("a", "b"), (side, side), crowd=crowd)


def anchor_at(x: float, y: float) -> int:
    return int(((ANCHORS[:, :2] - torch.tensor([x, y])).abs().sum(1)).argmin())


def predictions(batch: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, len(ANCHORS), CLASSES, generator=generator)
    distances = torch.rand(batch, len(ANCHORS), 4, generator=generator) * 12
    boxes = torch.cat([ANCHORS[:, :2] - distances[..., :2], ANCHORS[:, :2] + distances[..., 2:]], -1)
    return scores, boxes


def test_assigner__equals_a_case_computed_by_hand():
    scores = torch.full((1, 21, CLASSES), 0.4)
    boxes = torch.tensor([0.0, 0, 4, 16]).repeat(1, 21, 1)  # a quarter of the ground truth
    scores[0, anchor_at(4, 4), 0], boxes[0, anchor_at(4, 4)] = 0.5, torch.tensor([0.0, 0, 16, 16])  # alignment 0.5 x 1
    scores[0, anchor_at(8, 8), 0], boxes[0, anchor_at(8, 8)] = 0.8, torch.tensor([0.0, 0, 16, 8])  # alignment 0.8 x 0.5
    assignment = assign(scores, boxes, [truth([[0, 0, 16, 16]])], topk=2, alpha=1.0, beta=1.0)
    expected = torch.zeros(21)
    expected[anchor_at(4, 4)], expected[anchor_at(8, 8)] = 1.0, 0.4 / 0.5 * 1.0
    assert torch.allclose(assignment.quality[0], expected, atol=1e-6)
    assert assignment.is_counted.all()


def test_assigner__contested_point_goes_to_the_largest_overlap():
    scores, boxes = torch.full((1, 21, CLASSES), 0.5), torch.tensor([0.0, 0, 20, 20]).repeat(1, 21, 1)
    assignment = assign(scores, boxes, [truth([[0, 0, 32, 32], [0, 0, 20, 20]], [0, 1])])
    both = inside(ANCHORS[:, :2], torch.tensor([0.0, 0, 20, 20]))
    assert (assignment.matches[0, both & (assignment.quality[0] > 0)] == 1).all()


@pytest.mark.parametrize("x, y", [(0, 0), (8, 8), (15.5, 3.2), (31, 31)])
def test_assigner__tiny_object_inside_a_large_one_has_an_anchor_point(x, y):
    scores, boxes = predictions(1)
    assignment = assign(scores, boxes, [truth([[0, 0, 32, 32], [x, y, x + 1, y + 1]], [0, 1])])
    own = (assignment.matches[0] == 1) & (assignment.quality[0] > 0)
    assert own.sum() == 1
    assert ANCHORS[own, 2].item() == min(STRIDES)


def test_assigner__no_objects_is_background():
    scores, boxes = predictions(2)
    assignment = assign(scores, boxes, [truth([]), truth([])])
    assert not assignment.quality.any()
    assert assignment.is_counted.all()


def test_assigner__unlabeled_image_is_not_counted():
    scores, boxes = predictions(2)
    assignment = assign(scores, boxes, [None, truth([])])
    assert not assignment.is_counted[0].any()
    assert assignment.is_counted[1].all()


def test_assigner__crowd_is_ignored_for_its_class_only():
    scores, boxes = predictions(1)
    crowd, single = [0, 0, 24, 24], [4, 4, 20, 20]
    assignment = assign(scores, boxes, [truth([crowd, single], [1, 0], [True, False])])
    positive = assignment.quality[0] > 0
    assert (assignment.matches[0, positive] == 1).all(), "a crowd region is not an object"
    within = inside(ANCHORS[:, :2], torch.tensor(crowd, dtype=torch.float32))
    assert not assignment.is_counted[0, within & ~positive, 1].any()
    assert assignment.is_counted[0, :, 0].all()
    assert assignment.is_counted[0, ~within].all()


@pytest.mark.parametrize("seed", range(8))
def test_assigner__invariants_on_random_objects(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(6, 2, generator=generator) * 26
    size = torch.rand(6, 2, generator=generator) ** 2 * 24 + 0.5
    record = truth(torch.cat([corner, corner + size], 1).clamp(max=SIDE).numpy(), [0, 1] * 3)
    scores, boxes = predictions(1, seed)
    targets = stack_object_targets([record])
    assignment = assign(scores, boxes, [record], topk=3)
    overlap = pairwise_iou(targets["boxes"][0], boxes[0]).clamp(min=0.01)
    for row in range(6):
        own = (assignment.matches[0] == row) & (assignment.quality[0] > 0)
        assert own.sum() <= 3 + 1
        if own.any():
            assert torch.isclose(assignment.quality[0, own].max(), overlap[row, own].max(), atol=1e-5)
    padded = [record, truth([[0, 0, 5, 5]] * 9)]
    again = assign(scores.repeat(2, 1, 1), boxes.repeat(2, 1, 1), padded, topk=3)
    assert torch.equal(again.quality[0], assignment.quality[0]), "padding and other images have no effect"
