"""Detects JPEG compression of an image, by its tables or by the borders of its blocks."""

from __future__ import annotations

import os

import numpy as np

from densevision.io.decode import open_pillow

__all__ = ["estimate_jpeg_quality", "measure_blockiness"]

BLOCK_SIDE = 8
"""Side of JPEG's blocks."""
LUMINANCE_MEAN = 57.625
"""Mean of the example luminance table in the JPEG standard (annex K, table K.1), which is quality 50."""
MIN_SIDE = 64
"""Sides below which blocks cannot be distinguished from image content."""


def estimate_jpeg_quality(path: str | os.PathLike[str]) -> int | None:
    """Estimates the quality of a JPEG, 1 to 100, from its luminance table as libjpeg scales it; None without table."""
    with open_pillow(path) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    scale = 100 * float(np.mean(list(tables[min(tables)]))) / LUMINANCE_MEAN
    return round(5000 / scale if scale > 100 else (200 - scale) / 2)


def measure_blockiness(gray: np.ndarray) -> float:
    """Measures how much steeper an image is at the borders of 8 x 8 blocks than elsewhere; 1 without blocks.

    Differences of neighbors are averaged by their position in a block of eight; the steepest position is compared with
    the others. Blocks show in both directions, so the lower of the two ratios counts.

    Args:
        gray: (H, W) uint8.
    """
    if min(gray.shape) < MIN_SIDE:
        return 1.0
    values = gray.astype(np.float32)
    return min(_compute_ratio(values), _compute_ratio(values.T))


def _compute_ratio(values: np.ndarray) -> float:
    """Computes the ratio along rows."""
    steps = np.abs(np.diff(values, axis=1))
    # Subtracting the neighboring steps removes the image content from the step at a border.
    rise = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    positions = np.arange(rise.shape[1]) % BLOCK_SIDE
    means = np.array([rise[:, positions == position].mean() for position in range(BLOCK_SIDE)])
    mean_step = float(steps.mean())
    others = np.delete(means, means.argmax())
    return 1 + float(means.max() - others.mean()) / mean_step if mean_step else 1.0
