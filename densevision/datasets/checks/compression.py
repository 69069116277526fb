"""Whether an image was ever compressed by JPEG: by its tables, or by the rims of its blocks."""

from __future__ import annotations

import os

import numpy as np

from densevision.io.decode import open_pillow

BLOCK = 8
"""Side of JPEG's blocks."""
_LUMINANCE_MEAN = 57.625
"""Mean of the luminance table that JPEG's standard gives as an example (annex K, table K.1): quality 50."""
_LEAST = 64
"""Sides below which blocks cannot be told from what is in the image."""


def jpeg_quality(path: str | os.PathLike[str]) -> int | None:
    """Quality of a JPEG, 1 to 100, from its luminance table as libjpeg scales it; None where there is no table."""
    with open_pillow(path) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    scale = 100 * float(np.mean(list(tables[min(tables)]))) / _LUMINANCE_MEAN
    return round(5000 / scale if scale > 100 else (200 - scale) / 2)


def blockiness(gray: np.ndarray) -> float:
    """How much steeper than elsewhere an image is at the rims of 8 x 8 blocks; 1 where it has none.

    Steps between neighbors are averaged by their place in a block of eight; of the place with the steepest, the ratio
    to the others. In both directions the place must be near the same, or there are no blocks: the lower ratio counts.

    Args:
        gray: (H, W) uint8.
    """
    if min(gray.shape) < _LEAST:
        return 1.0
    values = gray.astype(np.float32)
    return min(_steepest(values), _steepest(values.T))


def _steepest(values: np.ndarray) -> float:
    """The ratio along rows."""
    steps = np.abs(np.diff(values, axis=1))
    # A rim stands out against the steps at its sides, whatever the image shows there.
    rise = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    places = np.arange(rise.shape[1]) % BLOCK
    means = np.array([rise[:, places == place].mean() for place in range(BLOCK)])
    level = float(steps.mean())
    others = np.delete(means, means.argmax())
    return 1.0 if not level else 1 + float(means.max() - others.mean()) / level
