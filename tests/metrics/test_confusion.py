"""Confusion and boundaries: absent classes, unknown pixels, and the boundary band of Cheng et al."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from densevision.metrics.confusion import BOUNDARY_WIDTH, BoundaryOverlap, Confusion, find_boundary_band


def test_confusion__absent_classes_are_left_out() -> None:
    confusion = Confusion(4)
    confusion.update(np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 255]]))
    iou = confusion.iou()
    np.testing.assert_allclose(iou[:2], [0.5, 0.5])
    assert np.isnan(iou[2:]).all(), "class 2 is only predicted where the ground truth is unknown"
    assert confusion.compute()["mIoU"] == 0.5 and confusion.unknown == 1


def test_confusion__wrongly_predicted_class_is_zero() -> None:
    confusion = Confusion(3)
    confusion.update(np.array([[2, 0]]), np.array([[0, 0]]))
    assert confusion.compute()["mIoU"] == pytest.approx(0.25)


def test_confusion__pixels_without_prediction_are_missed() -> None:
    confusion = Confusion(2)
    confusion.update(np.array([[0, 255]]), np.array([[0, 0]]))
    assert confusion.compute()["aAcc"] == 0.5


def test_confusion__no_known_pixel_is_nan() -> None:
    confusion = Confusion(2)
    confusion.update(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert all(math.isnan(value) for value in confusion.compute().values())


def reference_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The mask minus its erosion, as the authors compute it."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


@pytest.mark.parametrize("seed", range(3))
def test_boundary_overlap__equals_the_authors_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = (
        cv2.resize(rng.integers(0, 3, (8, 10)).astype(np.uint8), (150, 120), interpolation=cv2.INTER_NEAREST)
        for _ in range(2)
    )
    width = round(BOUNDARY_WIDTH * math.hypot(*truth.shape))
    overlap = BoundaryOverlap(3)
    overlap.update(prediction, truth)
    for label in range(3):
        first, second = (reference_band(labels == label, width) for labels in (truth, prediction))
        assert overlap.iou()[label] == pytest.approx((first & second).sum() / (first | second).sum())


def test_border_band__unknown_pixels_are_no_boundary() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[:, 15:] = 255
    assert not find_boundary_band(labels, 2)[5:25, 5:25].any()
    labels[:, 18:] = 1
    assert find_boundary_band(labels, 4)[5:25, 14].all(), "the other class lies beyond the unknown strip"
