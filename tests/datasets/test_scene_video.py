"""Synthetic videos: the same for the same seed, exact boxes, and identities that belong to one object."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from densevision.datasets.scenes import CLASSES, SceneVideo
from densevision.results import Detections

SIZE = (96, 128)


@pytest.fixture(scope="module")
def truth_records() -> list[Detections]:
    return [sample.truth for sample in SceneVideo(60, seed=3, size=SIZE)]


def test_video__depends_on_seed_number_and_frame_alone() -> None:
    video, other = SceneVideo(9, seed=3, size=SIZE), SceneVideo(5, seed=3, size=SIZE)
    first, second = video[4], other[4]
    np.testing.assert_array_equal(first.images["image"], second.images["image"])
    np.testing.assert_array_equal(first.truth.boxes, second.truth.boxes)
    different = SceneVideo(9, seed=3, number=1, size=SIZE)[4].images["image"]
    assert (different != first.images["image"]).mean() > 0.5
    with pytest.raises(IndexError):
        video[9]


def test_video__identity_has_one_class_and_a_smooth_path(truth_records: list[Detections]) -> None:
    labels: dict[int, set[int]] = {}
    steps = []
    for before, after in pairwise(truth_records):
        assert len(set(after.track_ids.tolist())) == len(after) and (after.track_ids > 0).all()
        for row, track_id in enumerate(after.track_ids.tolist()):
            labels.setdefault(track_id, set()).add(int(after.labels[row]))
            previous = np.flatnonzero(before.track_ids == track_id)
            if len(previous):
                steps.append(np.abs(after.boxes[row] - before.boxes[previous[0]]).max())
    assert len(labels) >= 2 and all(len(each) == 1 for each in labels.values())
    assert np.median(steps) > 0.4 and np.quantile(steps, 0.9) < 8  # pixels, of 4 * 128 / 320 and a turn
    assert all(result.names == CLASSES for result in truth_records)


def test_video__boxes_move_with_the_images() -> None:
    """The background is still: pixels that change between two frames lie in boxes or shadows; most in boxes."""
    video = SceneVideo(30, seed=3, size=SIZE)
    first, last = video[0], video[29]
    changed = np.abs(first.images["image"].astype(int) - last.images["image"]).max(2) > 60
    inside = np.zeros(SIZE, bool)
    for truth in (first.truth, last.truth):
        for x1, y1, x2, y2 in truth.boxes.astype(int):
            inside[y1:y2, x1:x2] = True
    assert changed.sum() > 100 and (changed & inside).sum() > 0.9 * changed.sum()
