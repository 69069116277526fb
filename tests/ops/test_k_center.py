"""Greedy k-center against its definition, and against the best of all subsets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from densevision.errors import UsageError
from densevision.ops.k_center import choose_k_centers


def choose_slowly(points: np.ndarray, count: int, first: int, existing: np.ndarray) -> list[int]:
    """By the definition: the point whose nearest center is farthest, over all points and centers each time."""
    chosen: list[int] = []
    while len(chosen) < count:
        centers = [*existing, *points[chosen]]
        if not centers:
            chosen.append(first)
            continue
        nearest = [
            -1.0 if row in chosen else min(float(np.linalg.norm(point - center)) for center in centers)
            for row, point in enumerate(points)
        ]
        chosen.append(int(np.argmax(nearest)))
    return chosen


@pytest.mark.parametrize("existing", [0, 3])
@pytest.mark.parametrize("seed", range(5))
def test_choose_k_centers__as_defined_and_at_most_twice_the_best_radius(seed: int, existing: int) -> None:
    rng = np.random.default_rng(seed)
    points, centers = rng.normal(size=(9, 2)), rng.normal(size=(existing, 2))
    points[4] = points[1]
    for count in (1, 3, 9):
        indices, distances = choose_k_centers(points, count, 2, centers if existing else None)
        assert indices.tolist() == choose_slowly(points, count, 2, centers)
        assert len(set(indices.tolist())) == count
        assert (np.diff(distances[np.isfinite(distances)]) <= 1e-12).all()
        if not existing:
            radii = [measure_radius(points, subset) for subset in combinations(range(9), count)]
            assert measure_radius(points, indices.tolist()) <= 2 * min(radii) + 1e-12


def measure_radius(points: np.ndarray, centers: tuple[int, ...] | list[int]) -> float:
    """The largest distance of a point from its nearest center."""
    return float(np.linalg.norm(points[:, None] - points[list(centers)], axis=2).min(1).max())


def test_choose_k_centers__more_than_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        choose_k_centers(np.zeros((2, 3)), 3)
    assert caught.value.field == "count"
