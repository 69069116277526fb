"""Run-length encodings compared with pycocotools, warped, outlined and pasted."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from densevision.ops import masks
from densevision.ops.paste import paste_mask, paste_mask_torchvision


def random_mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(rng.integers(1, 30, 2)) < rng.choice([0.0, 0.1, 0.5, 0.9, 1.1])


@pytest.mark.parametrize("seed", range(60))
def test_encode__equals_pycocotools(seed):
    mask = random_mask(seed)
    result = masks.encode(mask)
    assert result["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert np.array_equal(masks.decode(result), mask)


@pytest.mark.parametrize("seed", range(40))
def test_encode_window__equals_encoding_the_whole_mask(seed):
    mask, rng = random_mask(seed), np.random.default_rng(seed)
    x, y, right, down = rng.integers(0, 4, 4)
    whole = np.pad(mask, ((y, down), (x, right)))
    assert masks.encode_window(mask.T, (x, y), whole.shape) == masks.encode(whole)


@pytest.mark.parametrize("seed", range(40))
def test_warp__translations_and_mirroring_are_exact(seed):
    mask = random_mask(seed)
    height, width = mask.shape
    runs = masks.encode(mask)
    mirrored = masks.warp(runs, np.array([[-1.0, 0, width], [0, 1, 0]]), mask.shape)
    assert np.array_equal(masks.decode(mirrored), mask[:, ::-1])
    shifted = masks.warp(runs, np.array([[1.0, 0, 3], [0, 1, -2]]), (height, width + 3))
    assert np.array_equal(masks.decode(shifted), np.pad(mask, ((0, 2), (3, 0)))[2:])


def test_warp__scaled_rectangle():
    mask = np.zeros((20, 20), bool)
    mask[5:9, 6:12] = True
    doubled = masks.warp(masks.encode(mask), np.array([[2.0, 0, 0], [0, 3, 0]]), (60, 40))
    assert masks.compute_boxes([doubled])[0].tolist() == [12, 15, 24, 27]
    assert 140 <= masks.compute_areas([doubled])[0] <= 12 * 12, "at most the four corners are rounded off"


def test_warp__outside_the_canvas_is_empty():
    warped = masks.warp(masks.encode(np.ones((4, 4), bool)), np.array([[1.0, 0, 99], [0, 1, 0]]), (10, 10))
    assert not masks.decode(warped).any()


@pytest.mark.parametrize("seed", range(20))
def test_extract_polygons__encode_polygons_inverts_it(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), bool)
    for _ in range(3):
        y, x = rng.integers(0, 30, 2)
        mask[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = True
    from scipy.ndimage import binary_fill_holes

    filled = binary_fill_holes(mask)
    again = masks.decode(masks.encode_polygons(masks.extract_polygons(masks.encode(mask)), mask.shape))
    assert (again & filled).sum() / (again | filled).sum() > 0.97


def test_compute_areas__more_than_255_masks():
    mask = masks.encode(np.eye(3, dtype=bool))
    assert masks.compute_areas([mask] * 1000).tolist() == [3.0] * 1000
    assert masks.compute_boxes([mask] * 1000).shape == (1000, 4)


def test_masks__empty_input():
    runs = masks.encode(np.zeros((7, 5), bool))
    assert runs == masks.encode_empty((7, 5))
    assert masks.extract_polygons(runs) == []
    assert masks.compute_boxes([]).shape == (0, 4) and masks.compute_areas([]).shape == (0,)
    assert np.array_equal(masks.decode(masks.warp(runs, np.eye(2, 3), (3, 3))), np.zeros((3, 3), bool))


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("binary", [False, True])
def test_paste_mask_torchvision__equals_torchvision(seed, binary):
    import cv2
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 200, 2))
    box = np.sort(rng.random((2, 2)) * (width, height), 0).ravel().astype(np.float32)
    mask = cv2.GaussianBlur(rng.random((28, 28), np.float32), (0, 0), 3)
    mask = (mask - mask.min()) / np.ptp(mask)
    mask = (mask > 0.5).astype(np.float32) if binary else mask  # binary masks are 0.5 between two cells
    torchvision_masks = paste_masks_in_image(torch.tensor(mask)[None, None], torch.tensor(box)[None], (height, width))
    result = masks.decode(paste_mask_torchvision(mask, box, (height, width)))
    assert np.array_equal(result, torchvision_masks[0, 0].numpy() > 0.5)


@pytest.mark.parametrize("box", [(3, 4, 13, 9), (0, 0, 20, 20), (-5, -5, 4, 4), (30, 30, 40, 40), (5, 5, 5, 5)])
def test_paste_mask__fills_the_pixels_of_the_box(box):
    pasted = masks.decode(paste_mask(np.ones((28, 28)), np.array(box, np.float64), (20, 20)))
    expected = np.zeros((20, 20), bool)
    expected[max(0, box[1]) : max(0, box[3]), max(0, box[0]) : max(0, box[2])] = True
    assert np.array_equal(pasted, expected)


def test_paste_mask__memory_of_many_masks():
    import tracemalloc

    tracemalloc.start()
    runs = [paste_mask(np.ones((28, 28)), np.array([5.0 * i, 10, 5.0 * i + 900, 900]), (4000, 6000)) for i in range(60)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(runs) == 60
    assert peak < 30 * 2**20, "the pixels of all boxes are 46 MiB, one mask of the image is 23 MiB"


def test_encode_polygons__far_points_cost_no_memory_and_equal_the_clipped_polygon():
    """A line of pixels per step along a side of 1e15 pixels would take petabytes."""
    size = (20, 30)
    far = np.array([[5, 5], [1e15, 5], [1e15, 15], [5, 15]], np.float64)
    expected = np.zeros(size, bool)
    expected[5:15, 5:] = True
    np.testing.assert_array_equal(masks.decode(masks.encode_polygons([far], size)), expected)
    triangle = np.array([[-90, 10], [20, -500], [20, 500]], np.float64)
    direct = coco.decode(coco.merge(coco.frPyObjects([triangle.ravel().tolist()], *size)))
    np.testing.assert_array_equal(masks.decode(masks.encode_polygons([triangle], size)), direct)
    outside = far + (0, 1e15)
    assert not masks.decode(masks.encode_polygons([outside], size)).any()


@pytest.mark.parametrize("seed", range(20))
def test_encode_polygons__cut_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    polygon = rng.normal(15, 60, (int(rng.integers(3, 9)), 2))
    mask = masks.decode(masks.encode_polygons([polygon], (20, 30)))
    direct = coco.decode(coco.merge(coco.frPyObjects([polygon.ravel().tolist()], 20, 30))).astype(bool)
    assert (mask != direct).mean() <= 0.01
