"""Box arithmetic against torchvision and against its own inverses."""

from __future__ import annotations

import doctest

import pytest
import torch
from torchvision.ops import box_iou

from densevision.ops import boxes as ops


def random_boxes(count: int, seed: int, side: float = 100.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * side / 2 + 1], 1)


def test_examples__of_the_docstrings_hold():
    assert doctest.testmod(ops).failed == 0


def test_anchor_points__are_the_centers_of_the_cells():
    levels = [torch.empty(2, 1, 4, 6), torch.empty(2, 1, 2, 3)]
    points = ops.anchor_points(levels, (8, 16))
    assert points.shape == (24 + 6, 3)
    assert points[7].tolist() == [12.0, 12.0, 8.0]  # row 1, column 1 of the finer level
    assert points[-1].tolist() == [40.0, 24.0, 16.0]


def test_distances__are_inverted():
    points, boxes = torch.rand(50, 2) * 100, random_boxes(50, 0)
    assert torch.allclose(ops.distances_to_boxes(points, ops.boxes_to_distances(points, boxes)), boxes, atol=1e-4)


def test_inside__agrees_with_comparisons():
    points, boxes = torch.rand(40, 2) * 100, random_boxes(30, 1)
    (x, y), (x1, y1, x2, y2) = points.T, boxes.T[..., None]
    assert torch.equal(ops.inside(points, boxes), (x > x1) & (x < x2) & (y > y1) & (y < y2))


def test_pairwise_iou__equals_torchvision_on_each_image():
    one, other = random_boxes(60, 2).view(2, 30, 4), random_boxes(40, 3).view(2, 20, 4)
    expected = torch.stack([box_iou(a, b) for a, b in zip(one, other)])
    assert torch.allclose(ops.pairwise_iou(one, other), expected, atol=1e-6)


def test_pairwise_iou__of_empty_boxes_is_zero():
    empty = torch.tensor([[3.0, 3, 3, 3]])
    assert ops.pairwise_iou(empty, empty).item() == 0


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_two_hot__has_the_value_as_its_mean(lowest):
    values = torch.linspace(lowest, lowest + 7, 141)
    share = ops.two_hot(values, 8, lowest)
    assert torch.allclose(share.sum(-1), torch.ones(141))
    assert ((share > 0).sum(-1) <= 2).all()
    assert torch.allclose(ops.expectation(share.log().clamp(min=-100), lowest), values, atol=1e-5)


def test_two_hot__is_clamped_to_the_range():
    share = ops.two_hot(torch.tensor([-5.0, 99.0]), 4, -1.0)
    assert share.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
