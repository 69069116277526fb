"""How far apart two images of one thing lie: measured by points that both show, or by their outlines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LARGEST = 640
"""Longer side, in pixels, to which images are reduced before outlines are compared."""
POINTS = 1000
"""Points of an image that are described."""
RATIO = 0.75
"""How much nearer the best partner of a point must be than the second best (Lowe 2004)."""
LEAST_POINTS = 20
"""Partners from which a statistic is made."""


@dataclass(frozen=True)
class Offsets:
    """Where points of the left image are in the right one.

    Attributes:
        count: Points that were found in both.
        vertical: Median of the vertical offsets, in pixels.
        spread: Median of their absolute values.
        horizontal: Median of the horizontal offsets; negative where the right image is the right one.
    """

    count: int
    vertical: float
    spread: float
    horizontal: float


def point_offsets(left: np.ndarray, right: np.ndarray) -> Offsets | None:
    """Offsets of the points that two gray images share (SIFT, Lowe 2004); None where they share too few.

    Args:
        left: (H, W) uint8.
        right: (H, W) uint8.
    """
    finder = cv2.SIFT_create(POINTS)
    (first, ours), (second, theirs) = (finder.detectAndCompute(image, None) for image in (left, right))
    if ours is None or theirs is None or len(ours) < LEAST_POINTS or len(theirs) < 2:
        return None
    matches = cv2.BFMatcher().knnMatch(ours, theirs, k=2)
    good = [best for best, other in matches if best.distance < RATIO * other.distance]
    if len(good) < LEAST_POINTS:
        return None
    moves = np.array([np.subtract(second[m.trainIdx].pt, first[m.queryIdx].pt) for m in good])
    # A handful of false partners lies anywhere; medians do not support them.
    horizontal, vertical = np.median(moves, 0).tolist()
    return Offsets(len(good), vertical, float(np.median(np.abs(moves[:, 1]))), horizontal)


def outline_shift(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """How far the outlines of the second image lie from those of the first, whatever their colors mean.

    Phase correlation (Kuglin and Hines 1975) of gradient magnitudes.

    Args:
        first: (H, W) uint8 gray.
        second: (H, W) uint8 gray, of the same size.

    Returns:
        Right and down in pixels, and how peaked the correlation is, 0 to 1.
    """
    scale = min(1.0, LARGEST / max(first.shape))
    outlines = [_outlines(image, scale) for image in (first, second)]
    if min(outline.shape[0] for outline in outlines) < 8 or min(outlines[0].shape) < 8:
        return 0.0, 0.0, 0.0
    window = cv2.createHanningWindow(outlines[0].shape[::-1], cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(outlines[0], outlines[1], window)
    return x / scale, y / scale, float(response)


def outline_agreement(first: np.ndarray, second: np.ndarray, shift: tuple[float, float] = (0.0, 0.0)) -> float:
    """Correlation of the outlines of two gray images, softened by a pixel, once the second is moved back."""
    scale = min(1.0, LARGEST / max(first.shape))
    ours, theirs = (cv2.GaussianBlur(_outlines(image, scale), (0, 0), 1.0) for image in (first, second))
    x, y = (round(part * scale) for part in shift)
    height, width = ours.shape
    if abs(y) >= height or abs(x) >= width:
        return 0.0
    ours = ours[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    theirs = theirs[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float((ours * theirs).mean() / max(ours.std() * theirs.std(), 1e-9))


def _outlines(image: np.ndarray, scale: float) -> np.ndarray:
    gray = image.astype(np.float32)
    if scale < 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
