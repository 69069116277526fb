"""The image that is drawn on, and line widths and font sizes that fit its size."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from densevision.draw.colors import Color
from densevision.errors import DataError

__all__ = ["blend_color", "compute_font_size", "compute_line_width", "copy_canvas", "prepare_canvas", "split_rows"]

STRIP_PIXELS = 1 << 20
"""Pixels that are processed at a time where a whole image is recolored, to limit temporary memory."""


def copy_canvas(image: np.ndarray) -> np.ndarray:
    """Copies an image to draw on.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    return np.array(_check_canvas(image), order="C")


def prepare_canvas(image: np.ndarray, in_place: bool) -> np.ndarray:
    """The image itself where it may be drawn on, else a copy.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    if not in_place:
        return copy_canvas(image)
    return np.require(_check_canvas(image), requirements=["C", "W"])


def _check_canvas(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        hint = "Convert it to 8-bit RGB with `densevision.io.image.to_display`."
        raise DataError("cannot draw on this array", value=f"{image.shape} {image.dtype}", hint=hint)
    return image


def compute_line_width(size: tuple[int, int], count: int = 1) -> int:
    """Line width in pixels for an image of this (height, width) with `count` objects."""
    return max(1, round(_compute_side(size) / 300 * _compute_crowding_factor(count)))


def compute_font_size(size: tuple[int, int], count: int = 1) -> int:
    """Font size in pixels for an image of this (height, width) with `count` labels."""
    return round(max(10.0, _compute_side(size) / 40 * _compute_crowding_factor(count)))


def blend_color(patch: np.ndarray, color: Color, opacity: float, mask: np.ndarray | None = None) -> None:
    """Blends a color into an (h, w, 3) uint8 patch, in place.

    Args:
        patch: The pixels, a view of the image.
        color: RGB.
        opacity: Weight of the color, in [0, 1].
        mask: (h, w) bool; all pixels by default.
    """
    if patch.size == 0:
        return
    levels = np.arange(256)[:, None] * (1 - opacity) + np.asarray(color) * opacity
    blended = cv2.LUT(patch, np.rint(levels).astype(np.uint8).reshape(1, 256, 3))
    np.copyto(patch, blended, where=True if mask is None else mask[..., None])


def split_rows(size: tuple[int, int]) -> Iterator[slice]:
    """Splits the rows of an image of this (height, width) into strips of about `STRIP_PIXELS` pixels."""
    height, width = size
    rows = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _compute_side(size: tuple[int, int]) -> float:
    """Side of the square of the same area."""
    return float(size[0] * size[1]) ** 0.5


def _compute_crowding_factor(count: int) -> float:
    """Factor that makes drawings of many objects finer: 1 for up to 30 objects, 0.55 for 300 and more."""
    return min(1.0, max(0.55, (30 / max(count, 1)) ** 0.25))
