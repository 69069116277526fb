"""The Fréchet distance between two sets of features, each modeled as a normal distribution."""

from __future__ import annotations

import numpy as np

__all__ = ["frechet_distance"]


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of the means and covariances of two sets.

    Source: Dowson and Landau, 1982; called FID by Heusel et al., NeurIPS 2017, on Inception features.

    Args:
        features_a: (N, D), N at least 2.
        features_b: (M, D), M at least 2.

    Returns:
        At least 0, and 0 for equal sets.

    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 6)
    9.0
    """
    mean_a, root_a = _compute_mean_and_root(np.asarray(features_a, np.float64))
    mean_b, root_b = _compute_mean_and_root(np.asarray(features_b, np.float64))
    spread = float(np.square(root_a).sum()) + float(np.square(root_b).sum())
    # With C = R'R, the eigenvalues of C_a C_b are the squared singular values of R_a R_b^T: this needs no matrix square
    # root and is stable with fewer images than features.
    shared = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    return max(0.0, float(np.square(mean_a - mean_b).sum()) + spread - 2 * shared)


def _compute_mean_and_root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,), and R of at most D rows with R'R the covariance of the features."""
    mean = features.mean(0)
    centered = (features - mean) / np.sqrt(len(features) - 1)
    return mean, np.asarray(np.linalg.qr(centered, "r")) if len(features) > features.shape[1] else centered
