"""Confusion and borders: absent classes, unknown pixels, and the band of Cheng et al. by their own recipe."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from densevision.metrics.confusion import BAND, BoundaryOverlap, Confusion, border_band


def test_confusion__absent_classes_are_left_out() -> None:
    found = Confusion(4)
    found.update(np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 255]]))
    iou = found.iou()
    np.testing.assert_allclose(iou[:2], [0.5, 0.5])
    assert np.isnan(iou[2:]).all(), "class 2 is only answered where the truth is unknown"
    assert found.compute()["mIoU"] == 0.5 and found.unknown == 1


def test_confusion__wrongly_answered_class_counts_as_zero() -> None:
    found = Confusion(3)
    found.update(np.array([[2, 0]]), np.array([[0, 0]]))
    assert found.compute()["mIoU"] == pytest.approx(0.25)


def test_confusion__what_is_not_answered_is_missed() -> None:
    found = Confusion(2)
    found.update(np.array([[0, 255]]), np.array([[0, 0]]))
    assert found.compute()["aAcc"] == 0.5


def test_confusion__nothing_known_is_not_a_number() -> None:
    found = Confusion(2)
    found.update(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert all(math.isnan(value) for value in found.compute().values())


def reference_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The mask less its erosion, as the authors compute it."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


@pytest.mark.parametrize("seed", range(3))
def test_boundary__equals_the_authors_recipe(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, answer = (
        cv2.resize(rng.integers(0, 3, (8, 10)).astype(np.uint8), (150, 120), interpolation=cv2.INTER_NEAREST)
        for _ in range(2)
    )
    width = round(BAND * math.hypot(*truth.shape))
    found = BoundaryOverlap(3)
    found.update(answer, truth)
    for label in range(3):
        one, other = (reference_band(labels == label, width) for labels in (truth, answer))
        assert found.iou()[label] == pytest.approx((one & other).sum() / (one | other).sum())


def test_border_band__unknown_pixels_make_no_border() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[:, 15:] = 255
    assert not border_band(labels, 2)[5:25, 5:25].any()
    labels[:, 18:] = 1
    assert border_band(labels, 4)[5:25, 14].all(), "the other class lies beyond the unknown strip"
