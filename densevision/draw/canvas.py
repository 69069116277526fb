"""The image that is drawn on, and the measures that suit its size."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from densevision.draw.colors import Color
from densevision.errors import DataError

STRIP = 1 << 20
"""Pixels that are worked on at a time where a whole image is recoloured, so that memory stays that of the image."""


def canvas_of(image: np.ndarray) -> np.ndarray:
    """A copy of an image to draw on.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        hint = "Bring it to 8-bit RGB with `densevision.io.image.to_display`."
        raise DataError("cannot draw on this array", value=f"{image.shape} {image.dtype}", hint=hint)
    return np.array(image, order="C")


def line_width(size: tuple[int, int], count: int = 1) -> int:
    """Width in pixels of lines on an image of this (height, width) with `count` objects."""
    return max(1, round(_side(size) / 300 * _crowding(count)))


def letter_size(size: tuple[int, int], count: int = 1) -> int:
    """Size in pixels of letters that read well on an image of this (height, width) with `count` labels."""
    return round(max(10.0, _side(size) / 40 * _crowding(count)))


def blend(patch: np.ndarray, color: Color, part: float, where: np.ndarray | None = None) -> None:
    """Mixes a color into an (h, w, 3) uint8 patch, in place.

    Args:
        patch: The pixels, a view of the image.
        color: RGB.
        part: Part of the color in the mixture, in [0, 1].
        where: (h, w) bool; all pixels when not given.
    """
    if patch.size == 0:
        return
    levels = np.arange(256)[:, None] * (1 - part) + np.asarray(color) * part
    mixed = cv2.LUT(patch, np.rint(levels).astype(np.uint8).reshape(1, 256, 3))
    np.copyto(patch, mixed, where=True if where is None else where[..., None])


def strips(size: tuple[int, int]) -> Iterator[slice]:
    """Rows of an image of this (height, width) in portions of about `STRIP` pixels."""
    height, width = size
    rows = max(1, STRIP // max(width, 1))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _side(size: tuple[int, int]) -> float:
    """Side of the square of the same area."""
    return float(size[0] * size[1]) ** 0.5


def _crowding(count: int) -> float:
    """How much smaller to draw where there is much: 1 for up to 30 things, 0.55 for 300 and more."""
    return min(1.0, max(0.55, (30 / max(count, 1)) ** 0.25))
