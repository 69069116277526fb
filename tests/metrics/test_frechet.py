"""The Fréchet distance against its definition with a matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from densevision.metrics.frechet import frechet_distance


def compute_by_definition(one: np.ndarray, other: np.ndarray) -> float:
    spreads = [np.cov(features, rowvar=False) for features in (one, other)]
    root = sqrtm(spreads[0] @ spreads[1])
    return float(np.square(one.mean(0) - other.mean(0)).sum() + np.trace(spreads[0] + spreads[1] - 2 * root.real))


@pytest.mark.parametrize(("n", "m", "size"), [(50, 40, 6), (7, 7, 5), (9, 30, 8)])
def test_distance__equals_definition(n: int, m: int, size: int):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(n, size)), rng.normal(0.3, 2.0, size=(m, size)) @ rng.normal(size=(size, size))
    assert frechet_distance(one, other) == pytest.approx(compute_by_definition(one, other), rel=1e-8)


def test_distance__fewer_images_than_features():
    """Both covariances are singular; in the plane that both sets span they are not, and the distance is the same."""
    rng = np.random.default_rng(1)
    plane = np.linalg.qr(rng.normal(size=(40, 2)))[0].T
    one, other = rng.normal(size=(6, 2)), rng.normal(1.0, 0.5, size=(5, 2))
    assert frechet_distance(one @ plane, other @ plane) == pytest.approx(compute_by_definition(one, other), rel=1e-8)


def test_distance__equal_sets_symmetry_and_shift():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(12, 30)), rng.normal(size=(9, 30))
    assert frechet_distance(one, one[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one, one + 2) == pytest.approx(30 * 4)
