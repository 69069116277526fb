"""What checks of pairs share: gray images, samples, and how well one image explains another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from densevision.io.image import read_image, to_display

T = TypeVar("T")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spaced.

    >>> evenly(range(10), 3)
    [0, 4, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[row] for row in np.linspace(0, len(items) - 1, most).astype(int).tolist()]


def gray_of(path: str | os.PathLike[str]) -> np.ndarray:
    """(H, W) uint8, the image in gray."""
    return cv2.cvtColor(to_display(read_image(path)), cv2.COLOR_RGB2GRAY)


def signal_to_noise(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR in dB of two images of values up to 255."""
    error = float(((first.astype(np.float32) - second.astype(np.float32)) ** 2).mean())
    return 10 * np.log10(255**2 / max(error, 1e-9))
