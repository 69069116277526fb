"""Functions that checks of image pairs share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from densevision.io.image import read_image, to_display

__all__ = ["compute_psnr", "read_gray", "sample_evenly"]

T = TypeVar("T")


def sample_evenly(items: Sequence[T], max_count: int) -> list[T]:
    """Returns at most `max_count` of the items, evenly spaced.

    >>> sample_evenly(range(10), 3)
    [0, 4, 9]
    """
    if len(items) <= max_count:
        return list(items)
    return [items[row] for row in np.linspace(0, len(items) - 1, max_count).astype(int).tolist()]


def read_gray(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image as (H, W) uint8 gray."""
    return cv2.cvtColor(to_display(read_image(path)), cv2.COLOR_RGB2GRAY)


def compute_psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Computes the PSNR in dB of two images with values up to 255; at most 138 dB."""
    error = float(((first.astype(np.float32) - second.astype(np.float32)) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
