"""Merging boxes of tiles: cut parts are dropped, nested objects stay."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from torchvision.ops import batched_nms

from densevision.ops import merging
from densevision.ops.merging import find_cut_boxes, merge_boxes, tile_windows


def test_examples__of_the_docstrings():
    assert doctest.testmod(merging).failed == 0


@pytest.mark.parametrize("size", [(100, 100), (333, 512), (90, 1000), (64, 64)])
def test_tile_windows__cover_the_image(size):
    windows = tile_windows(size, 128, 0.25)
    covered = np.zeros(size, bool)
    for x1, y1, x2, y2 in windows:
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert ((windows[:, 2:] - windows[:, :2]) == np.minimum(size[::-1], 128)).all()


def test_find_cut_boxes__borders_between_tiles_only():
    windows = np.array([[0, 0, 100, 100], [80, 0, 180, 100]])
    boxes = np.array(
        [
            [60, 20, 100, 40],  # ends at the border of the first tile
            [80, 20, 120, 40],  # starts at the border of the second one
            [0, 0, 50, 100],  # ends at borders of the image
            [150, 20, 180, 40],
            [20, 20, 60, 60],
            [60, 20, 130, 40],  # in no single tile
        ],
        np.float32,
    )
    assert find_cut_boxes(boxes, windows).tolist() == [True, True, False, False, False, False]


def test_merge_boxes__without_windows_is_nms():
    import torch

    rng = np.random.default_rng(0)
    corner = rng.random((60, 2)).astype(np.float32) * 80
    boxes = np.concatenate([corner, corner + rng.random((60, 2)).astype(np.float32) * 40 + 1], 1)
    scores, groups = rng.random(60).astype(np.float32), rng.integers(0, 2, 60)
    expected = batched_nms(*map(torch.from_numpy, (boxes, scores, groups)), 0.5).tolist()
    assert merge_boxes(boxes, scores, groups, 0.5).tolist() == expected
    one_window = tile_windows((120, 120), 128, 0.25)
    assert merge_boxes(boxes, scores, groups, 0.5, one_window).tolist() == expected


def test_merge_boxes__cut_part_inside_a_stronger_box():
    windows = tile_windows((100, 100), 64, 0.25)  # tiles start at 0 and 36
    boxes = np.array([[10, 20, 50, 62], [10, 36, 50, 62], [20, 40, 30, 50]], np.float32)
    scores, groups = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    assert merge_boxes(boxes, scores, groups, 0.7, windows).tolist() == [0, 2], "the third box is nested, but not cut"
    assert merge_boxes(boxes, scores, np.array([0, 1, 0]), 0.7, windows).tolist() == [0, 1, 2]
