"""Diverse subsets: points that are as far as possible from one another."""

from __future__ import annotations

import numpy as np

from densevision.errors import UsageError

__all__ = ["choose_k_centers"]


def choose_k_centers(
    points: np.ndarray, count: int, first: int = 0, existing: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses centers one by one, each the point that is farthest from all centers before.

    The largest distance of a point from its nearest center is at most twice the smallest possible one. Source: T. F.
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; for choosing images to label: O. Sener
    and S. Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018, algorithm 1.

    Args:
        points: (N, D) numbers.
        count: How many to choose; at most N.
        first: The first center, where there are no existing ones.
        existing: (M, D) centers that are there already.

    Returns:
        (count,) indices in the order in which they were chosen, and (count,) the distance of each from the nearest
        center before it; infinite for a first one. Of points at the same distance the first one is chosen.

    Raises:
        UsageError: There are fewer points.

    >>> indices, distances = choose_k_centers(np.array([[0.0], [1.0], [5.0], [9.0]]), 3)
    >>> indices.tolist(), distances.tolist()
    ([0, 3, 2], [inf, 9.0, 4.0])
    """
    points = np.asarray(points, np.float64)
    if count > len(points):
        raise UsageError(f"is more than the {len(points)} images", field="count", value=count, hint="Choose fewer.")
    nearest, chosen, distances = np.full(len(points), np.inf), [], []
    for center in () if existing is None else np.asarray(existing, np.float64):
        nearest = np.minimum(nearest, _measure_distances(points, center))
    for number in range(count):
        index = first if number == 0 and np.isinf(nearest).all() else int(nearest.argmax())
        chosen.append(index)
        distances.append(nearest[index])
        nearest = np.minimum(nearest, _measure_distances(points, points[index]))
        nearest[index] = -np.inf  # a point that was chosen is not chosen again, also where others equal it
    return np.array(chosen, np.int64), np.array(distances)


def _measure_distances(points: np.ndarray, center: np.ndarray) -> np.ndarray:
    return np.sqrt(((points - center) ** 2).sum(1))
