"""Keys to colors in a corner of the image: names of classes, a bar with its unit, a wheel of directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from densevision.draw.canvas import blend, letter_size
from densevision.draw.colors import Color
from densevision.draw.text import elided, line_height, width_of, write

PAPER: Color = (16, 16, 16)
INK: Color = (255, 255, 255)
OPACITY = 0.65
"""Of the paper that a key is written on."""
LARGEST = 0.45
"""Part of the image's width and of its height that a key may take; one that needs more is left out."""


def write_names(canvas: np.ndarray, entries: Sequence[tuple[str, Color]]) -> None:
    """Names beside their colors at the bottom left of an (H, W, 3) uint8 image, in place.

    As many as there is room for, the first first, and then how many more there are.
    """
    letters, pad, line = _measures(canvas)
    room_height, room_width = (LARGEST * side - 2 * pad for side in canvas.shape[:2])
    rows = int(room_height // line)
    if not entries or rows < 1 or room_width < 6 * letters:
        return
    shown = list(entries if len(entries) <= rows else entries[: rows - 1])
    texts = [elided(name, letters, room_width - letters - pad) for name, _ in shown]
    texts += [f"+ {len(entries) - len(shown)} more"] if len(shown) < len(entries) else []
    width = max(width_of(text, letters) for text in texts) + letters + pad
    height = len(texts) * line
    x, y = _paper(canvas, (height, width), pad, "left")
    for row, text in enumerate(texts):
        top = y + row * line
        if row < len(shown):
            inset = (line - letters) // 2
            canvas[top + inset : top + inset + letters, x : x + letters] = shown[row][1]
        write(canvas, text, (x + letters + pad, top), letters, INK)


def write_bar(canvas: np.ndarray, ramp: np.ndarray, low: float, high: float, caption: str) -> None:
    """A bar of colors with numbers below it at the bottom right of an (H, W, 3) uint8 image, in place.

    Args:
        canvas: The image that is changed.
        ramp: (256, 3) uint8 RGB from the color of `low` to that of `high`.
        low: Number at the bar's left end.
        high: Number at its right end.
        caption: What the numbers are and their unit.
    """
    letters, pad, line = _measures(canvas)
    width = round(min(LARGEST * canvas.shape[1] - 2 * pad, 16 * letters))
    height = 2 * line + letters
    if width < 8 * letters or height + 2 * pad > LARGEST * canvas.shape[0]:
        return
    x, y = _paper(canvas, (height, width), pad, "right")
    write(canvas, elided(caption, letters, width), (x, y), letters, INK)
    canvas[y + line : y + line + letters, x : x + width] = ramp[np.linspace(0, 255, width).round().astype(int)]
    free = x
    for value, text in zip(*_ticks(low, high)):
        middle = x + (value - low) / (high - low) * (width - 1)
        extent = width_of(text, letters)
        left = round(min(max(middle - extent / 2, x), x + width - extent))
        if left >= free:
            canvas[y + line + letters - max(2, letters // 3) : y + line + letters, round(middle)] = INK
            write(canvas, text, (left, y + line + letters), letters, INK)
            free = left + extent + pad


def write_wheel(canvas: np.ndarray, wheel: np.ndarray, caption: str) -> None:
    """A disc of colors with a line below it at the bottom right of an (H, W, 3) uint8 image, in place.

    Args:
        canvas: The image that is changed.
        wheel: (D, D, 3) uint8 RGB; what lies outside the disc in it is not shown.
        caption: What the rim means.
    """
    letters, pad, line = _measures(canvas)
    diameter = 6 * letters
    width = max(diameter, width_of(caption, letters))
    height = diameter + line
    if width + 2 * pad > LARGEST * canvas.shape[1] or height + 2 * pad > LARGEST * canvas.shape[0]:
        return
    x, y = _paper(canvas, (height, width), pad, "right")
    disc = cv2.resize(wheel, (diameter, diameter), interpolation=cv2.INTER_AREA)
    inside = np.zeros((diameter, diameter), np.uint8)
    half = (diameter - 1) << 3
    cv2.circle(inside, (half, half), (diameter << 3) - 8, 255, -1, cv2.LINE_AA, 4)
    left = x + (width - diameter) // 2
    patch = canvas[y : y + diameter, left : left + diameter]
    part = inside[..., None] / np.float32(255)
    patch[:] = np.rint(patch * (1 - part) + disc * part)
    write(canvas, caption, (x + (width - width_of(caption, letters)) // 2, y + diameter), letters, INK)


def _measures(canvas: np.ndarray) -> tuple[int, int, int]:
    """Letters, margin and line in pixels."""
    letters = letter_size(canvas.shape[:2])
    return letters, max(3, letters // 2), line_height(letters)


def _paper(canvas: np.ndarray, extent: tuple[int, int], pad: int, side: str) -> tuple[int, int]:
    """Darkens the ground of a key of (height, width) in a bottom corner; where its content begins, (x, y)."""
    height, width = extent
    bottom = canvas.shape[0] - pad
    left = pad if side == "left" else canvas.shape[1] - width - 3 * pad
    top = bottom - height - 2 * pad
    blend(canvas[top:bottom, left : left + width + 2 * pad], PAPER, OPACITY)
    return left + pad, top + pad


def _ticks(low: float, high: float, most: int = 5) -> tuple[list[float], list[str]]:
    """Round numbers in a range, in steps of 1, 2 or 5 times a power of ten, and how they are written."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [index * step for index in range(first, last + 1)]
    return values, [f"{value:.{digits}f}" for value in values]
