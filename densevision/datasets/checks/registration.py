"""Displacement between two images of the same scene, measured by keypoints or by edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["PointOffsets", "correlate_edges", "measure_edge_shift", "measure_point_offsets"]

MAX_SIDE = 640
"""Longer side in pixels to which images are reduced before their edges are compared."""
MIN_SIDE = 8
MAX_POINTS = 1000
"""Keypoints that are described in each image."""
MATCH_RATIO = 0.75
"""Maximum ratio of the distances to the best and the second best match (Lowe 2004)."""
MIN_MATCHES = 20
"""Minimum number of matches for a statistic."""


@dataclass(frozen=True)
class PointOffsets:
    """Displacement of keypoints from the left to the right image.

    Attributes:
        count: Number of matched keypoints.
        vertical: Median vertical offset in pixels.
        spread: Median absolute vertical offset in pixels.
        horizontal: Median horizontal offset in pixels; negative if left and right are not swapped.
    """

    count: int
    vertical: float
    spread: float
    horizontal: float


def measure_point_offsets(left: np.ndarray, right: np.ndarray) -> PointOffsets | None:
    """Measures the offsets of matched SIFT keypoints (Lowe 2004); None if there are too few matches.

    Args:
        left: (H, W) uint8.
        right: (H, W) uint8.
    """
    detector = cv2.SIFT.create(MAX_POINTS)
    (left_points, left_features), (right_points, right_features) = (
        detector.detectAndCompute(image, None) for image in (left, right)
    )
    if left_features is None or right_features is None or len(left_features) < MIN_MATCHES or len(right_features) < 2:
        return None
    candidates = cv2.BFMatcher().knnMatch(left_features, right_features, k=2)
    matches = [best for best, second in candidates if best.distance < MATCH_RATIO * second.distance]
    if len(matches) < MIN_MATCHES:
        return None
    offsets = np.array([np.subtract(right_points[m.trainIdx].pt, left_points[m.queryIdx].pt) for m in matches])
    # Medians ignore a few wrong matches.
    horizontal, vertical = np.median(offsets, 0).tolist()
    return PointOffsets(len(matches), vertical, float(np.median(np.abs(offsets[:, 1]))), horizontal)


def measure_edge_shift(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Measures the shift of the edges from the first to the second image, which may have different colors.

    Phase correlation (Kuglin and Hines 1975) of gradient magnitudes.

    Args:
        first: (H, W) uint8 gray.
        second: (H, W) uint8 gray, of the same size.

    Returns:
        Shift to the right and down in pixels, and the height of the correlation peak, 0 to 1.
    """
    scale = min(1.0, MAX_SIDE / max(first.shape))
    edges = [_compute_edges(image, scale) for image in (first, second)]
    if min(edges[0].shape) < MIN_SIDE or edges[1].shape[0] < MIN_SIDE:
        return 0.0, 0.0, 0.0
    window = cv2.createHanningWindow(edges[0].shape[::-1], cv2.CV_32F)
    (x, y), peak = cv2.phaseCorrelate(edges[0], edges[1], window)
    return x / scale, y / scale, float(peak)


def correlate_edges(first: np.ndarray, second: np.ndarray, shift: tuple[float, float] = (0.0, 0.0)) -> float:
    """Computes the correlation of the blurred edges of two gray images after a shift of the second is undone."""
    scale = min(1.0, MAX_SIDE / max(first.shape))
    a, b = (cv2.GaussianBlur(_compute_edges(image, scale), (0, 0), 1.0) for image in (first, second))
    x, y = (round(part * scale) for part in shift)
    height, width = a.shape
    if abs(y) >= height or abs(x) >= width:
        return 0.0
    a = a[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    b = b[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / max(a.std() * b.std(), 1e-9))


def _compute_edges(image: np.ndarray, scale: float) -> np.ndarray:
    """Computes gradient magnitudes of a reduced image."""
    gray: np.ndarray = image.astype(np.float32)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
