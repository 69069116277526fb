"""Trails of tracked objects."""

from __future__ import annotations

import numpy as np

from densevision.draw.colors import get_track_color
from densevision.draw.trails import Trails


def draw(trails: Trails, x: float, track_id: int = 5) -> np.ndarray:
    return trails.draw(np.zeros((60, 200, 3), np.uint8), np.array([[x - 5, 20, x + 5, 40.0]]), np.array([track_id]))


def test_trails__path_of_the_last_frames() -> None:
    trails = Trails(length=4)
    frames = [draw(trails, 20 + 20 * step) for step in range(8)]
    assert not frames[0][30, 10].any()
    last = frames[-1][30]  # centers at 100, 120, 140, 160
    np.testing.assert_allclose(last[[105, 155]], [get_track_color(5)] * 2, atol=25)  # thin lines are antialiased
    assert not last[90].any() and not last[170].any()


def test_trails__none_without_identity_and_forgotten_after_a_while() -> None:
    trails = Trails(length=3)
    assert not draw(trails, 50, -1).any() and not draw(trails, 90, -1).any()
    draw(trails, 20)
    for _ in range(4):
        trails.draw(np.zeros((60, 200, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, int))
    assert not draw(trails, 180)[30, 60:140].any()
