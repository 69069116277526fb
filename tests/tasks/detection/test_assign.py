"""Assignment against a case worked out by hand, and what must hold for any truth."""

from __future__ import annotations

import pytest
import torch

from densevision.datasets.targets import stack
from densevision.ops.boxes import anchor_points, inside, pairwise_iou
from densevision.results import Detections
from densevision.tasks.detection.assigner import assign
from densevision.tasks.detection.models.yolo import STRIDES

SIDE, CLASSES = 32, 2
ANCHORS = anchor_points([torch.empty(1, 1, SIDE // stride, SIDE // stride) for stride in STRIDES], STRIDES)
PLAIN = {"topk": 10, "alpha": 0.5, "beta": 6.0}


def truth(boxes, labels=None, crowd=None, side: int = SIDE) -> Detections:
    labels = [0] * len(boxes) if labels is None else labels
    crowd = torch.tensor(crowd if crowd is not None else [False] * len(boxes), dtype=torch.bool).numpy()
    return Detections.of(boxes, labels, ("a", "b"), (side, side), crowd=crowd)


def at(x: float, y: float) -> int:
    return int(((ANCHORS[:, :2] - torch.tensor([x, y])).abs().sum(1)).argmin())


def predictions(batch: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, len(ANCHORS), CLASSES, generator=generator)
    receptive_field_radius = torch.rand(batch, len(ANCHORS), 4, generator=generator) * 12
    boxes = torch.cat(
        [ANCHORS[:, :2] - receptive_field_radius[..., :2], ANCHORS[:, :2] + receptive_field_radius[..., 2:]], -1
    )
    return scores, boxes


def test_assign__equals_the_case_worked_out_by_hand():
    scores = torch.full((1, 21, CLASSES), 0.4)
    boxes = torch.tensor([0.0, 0, 4, 16]).repeat(1, 21, 1)  # a quarter of the truth
    scores[0, at(4, 4), 0], boxes[0, at(4, 4)] = 0.5, torch.tensor([0.0, 0, 16, 16])  # alignment 0.5 x 1
    scores[0, at(8, 8), 0], boxes[0, at(8, 8)] = 0.8, torch.tensor([0.0, 0, 16, 8])  # alignment 0.8 x 0.5
    found = assign(scores, boxes, ANCHORS, stack([truth([[0, 0, 16, 16]])]), topk=2, alpha=1.0, beta=1.0)
    expected = torch.zeros(21)
    expected[at(4, 4)], expected[at(8, 8)] = 1.0, 0.4 / 0.5 * 1.0
    assert torch.allclose(found.quality[0], expected, atol=1e-6)
    assert found.counted.all()


def test_assign__gives_a_contested_point_to_the_truth_it_overlaps_most():
    scores, boxes = torch.full((1, 21, CLASSES), 0.5), torch.tensor([0.0, 0, 20, 20]).repeat(1, 21, 1)
    found = assign(scores, boxes, ANCHORS, stack([truth([[0, 0, 32, 32], [0, 0, 20, 20]], [0, 1])]), **PLAIN)
    both = inside(ANCHORS[:, :2], torch.tensor([0.0, 0, 20, 20]))
    assert (found.truth[0, both & (found.quality[0] > 0)] == 1).all()


@pytest.mark.parametrize("x, y", [(0, 0), (8, 8), (15.5, 3.2), (31, 31)])
def test_assign__finds_a_point_for_one_pixel_even_inside_a_large_truth(x, y):
    scores, boxes = predictions(1)
    found = assign(scores, boxes, ANCHORS, stack([truth([[0, 0, 32, 32], [x, y, x + 1, y + 1]], [0, 1])]), **PLAIN)
    own = (found.truth[0] == 1) & (found.quality[0] > 0)
    assert own.sum() == 1
    assert ANCHORS[own, 2].item() == min(STRIDES)


def test_assign__without_objects_is_all_background():
    scores, boxes = predictions(2)
    found = assign(scores, boxes, ANCHORS, stack([truth([]), truth([])]), **PLAIN)
    assert not found.quality.any()
    assert found.counted.all()


def test_assign__without_truth_counts_nothing():
    scores, boxes = predictions(2)
    found = assign(scores, boxes, ANCHORS, stack([None, truth([])]), **PLAIN)
    assert not found.counted[0].any()
    assert found.counted[1].all()


def test_assign__ignores_a_crowd_of_its_own_class_only():
    scores, boxes = predictions(1)
    crowd, single = [0, 0, 24, 24], [4, 4, 20, 20]
    found = assign(scores, boxes, ANCHORS, stack([truth([crowd, single], [1, 0], [True, False])]), **PLAIN)
    positive = found.quality[0] > 0
    assert (found.truth[0, positive] == 1).all(), "a crowd is no object"
    within = inside(ANCHORS[:, :2], torch.tensor(crowd, dtype=torch.float32))
    assert not found.counted[0, within & ~positive, 1].any()
    assert found.counted[0, :, 0].all()
    assert found.counted[0, ~within].all()


@pytest.mark.parametrize("seed", range(8))
def test_assign__keeps_its_promises_for_any_truth(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(6, 2, generator=generator) * 26
    size = torch.rand(6, 2, generator=generator) ** 2 * 24 + 0.5
    record = truth(torch.cat([corner, corner + size], 1).clamp(max=SIDE).numpy(), [0, 1] * 3)
    scores, boxes = predictions(1, seed)
    targets = stack([record])
    found = assign(scores, boxes, ANCHORS, targets, topk=3, alpha=0.5, beta=6.0)
    overlap = pairwise_iou(targets["boxes"][0], boxes[0]).clamp(min=0.01)
    for row in range(6):
        own = (found.truth[0] == row) & (found.quality[0] > 0)
        assert own.sum() <= 3 + 1
        if own.any():
            assert torch.isclose(found.quality[0, own].max(), overlap[row, own].max(), atol=1e-5)
    padded = stack([record, truth([[0, 0, 5, 5]] * 9)])
    again = assign(scores.repeat(2, 1, 1), boxes.repeat(2, 1, 1), ANCHORS, padded, topk=3, alpha=0.5, beta=6.0)
    assert torch.equal(again.quality[0], found.quality[0]), "padding and neighbors change nothing"
