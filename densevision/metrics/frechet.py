"""The Frechet distance between two sets of features, each taken for a normal distribution."""

from __future__ import annotations

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the means and covariances of two sets.

    Source: Dowson and Landau, 1982; called FID by Heusel et al., NeurIPS 2017, of Inception's features.

    Args:
        one: (N, D), N at least 2.
        other: (M, D), M at least 2.

    Returns:
        At least 0, and 0 for equal sets.

    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 6)
    9.0
    """
    means, roots = zip(*(_mean_and_root(np.asarray(features, np.float64)) for features in (one, other)))
    spread = sum(float(np.square(root).sum()) for root in roots)
    # With C = R'R, the eigenvalues of C C' are the squares of the singular values of R R'^T: no root of a matrix, and
    # no trouble where there are fewer images than features.
    shared = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    return max(0.0, float(np.square(means[0] - means[1]).sum()) + spread - 2 * shared)


def _mean_and_root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,), and R of at most D rows with R'R the covariance of the features."""
    mean = features.mean(0)
    centered = (features - mean) / np.sqrt(len(features) - 1)
    return mean, np.linalg.qr(centered, "r") if len(features) > features.shape[1] else centered
