"""Batched suppression against torchvision's."""

from __future__ import annotations

import doctest

import pytest
import torch
from torchvision.ops import batched_nms as torchvision_batched_nms

from densevision.ops import nms
from densevision.ops.nms import batched_nms, gather_rows, nms_dense, top_k

THRESHOLD = 0.4123
"""No overlap of boxes with small integer sides equals it, so that rounding decides nothing."""


def random_boxes(count: int, seed: int, side: float = 100.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * side / 2 + 1], 1)


def test_examples__of_the_docstrings():
    assert doctest.testmod(nms).failed == 0


@pytest.mark.parametrize("seed", range(20))
def test_nms_dense__equals_greedy_suppression_with_ties(seed):
    generator = torch.Generator().manual_seed(seed)
    count, classes = 150, 3
    boxes = torch.stack([random_boxes(count, 100 + seed, 60), random_boxes(count, 200 + seed, 60)]).round()
    scores = (torch.rand(2, count, generator=generator) * 10).round() / 10  # many are equal
    groups = torch.randint(classes, (2, count), generator=generator)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    scores, groups = scores.gather(1, order), groups.gather(1, order)
    valid = scores > 0.2
    kept = nms_dense(boxes, valid, THRESHOLD, groups)
    for row in range(2):
        rows = valid[row].nonzero()[:, 0]
        reference = torchvision_batched_nms(boxes[row, rows], scores[row, rows], groups[row, rows], THRESHOLD)
        assert kept[row].nonzero()[:, 0].tolist() == sorted(rows[reference].tolist())


def test_nms_dense__chain_longer_than_the_exported_rounds():
    start = torch.arange(100.0)[:, None] * 2
    row = torch.cat([start, start * 0, start + 10, start * 0 + 10], 1)[None]  # each overlaps the next by 2/3
    kept = nms_dense(row, torch.ones(1, 100, dtype=torch.bool), 0.6)
    assert kept[0].tolist() == [position % 2 == 0 for position in range(100)]


def test_nms_dense__without_candidates():
    assert not nms_dense(torch.rand(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool), 0.5).any()


def test_batched_nms__equals_nms_dense():
    boxes = torch.stack([random_boxes(80, seed, 60) for seed in range(2)])
    scores = torch.linspace(1, 0, 80).expand(2, -1)
    valid, groups = scores > 0.1, torch.arange(80).expand(2, -1) % 3
    for each in (None, groups):
        expected = nms_dense(boxes, valid, THRESHOLD, each)
        assert torch.equal(batched_nms(boxes, scores, valid, THRESHOLD, each), expected)


def test_top_k__has_a_fixed_shape():
    best, rows = top_k(torch.tensor([[0.2, 0.9]]), 4)
    assert best.shape == rows.shape == (1, 4)
    assert rows[0, :2].tolist() == [1, 0] and (best[0, 2:] == -torch.inf).all()


def test_gather_rows__any_trailing_shape():
    values = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(gather_rows(values, torch.tensor([[2], [0]])), torch.stack([values[0, 2:], values[1, :1]]))
