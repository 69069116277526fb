"""Legends in a corner of the image: class names, a color bar with its unit, a wheel of directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from densevision.draw.canvas import blend_color, compute_font_size
from densevision.draw.colors import Color
from densevision.draw.text import compute_line_height, draw_text, measure_text_width, shorten_text

__all__ = ["draw_class_legend", "draw_color_bar", "draw_flow_wheel"]

BACKGROUND: Color = (16, 16, 16)
TEXT_COLOR: Color = (255, 255, 255)
BACKGROUND_OPACITY = 0.65
MAX_FRACTION = 0.45
"""Maximum fraction of the image width and height that a legend may take; a larger one is omitted."""


def draw_class_legend(canvas: np.ndarray, entries: Sequence[tuple[str, Color]]) -> None:
    """Draws class names next to their colors at the bottom left of an (H, W, 3) uint8 image, in place.

    The first entries are shown, as many as fit, followed by the number of omitted ones.
    """
    font_size, padding, line_height = _compute_layout(canvas)
    max_height, max_width = (MAX_FRACTION * side - 2 * padding for side in canvas.shape[:2])
    rows = int(max_height // line_height)
    if not entries or rows < 1 or max_width < 6 * font_size:
        return
    shown = list(entries if len(entries) <= rows else entries[: rows - 1])
    texts = [shorten_text(name, font_size, max_width - font_size - padding) for name, _ in shown]
    texts += [f"+ {len(entries) - len(shown)} more"] if len(shown) < len(entries) else []
    width = max(measure_text_width(text, font_size) for text in texts) + font_size + padding
    height = len(texts) * line_height
    x, y = _draw_background(canvas, (height, width), padding, "left")
    for row, text in enumerate(texts):
        top = y + row * line_height
        if row < len(shown):
            inset = (line_height - font_size) // 2
            canvas[top + inset : top + inset + font_size, x : x + font_size] = shown[row][1]
        draw_text(canvas, text, (x + font_size + padding, top), font_size, TEXT_COLOR)


def draw_color_bar(canvas: np.ndarray, ramp: np.ndarray, low: float, high: float, caption: str) -> None:
    """Draws a color bar with numbers below it at the bottom right of an (H, W, 3) uint8 image, in place.

    Args:
        canvas: The image, is modified.
        ramp: (256, 3) uint8 RGB from the color of `low` to that of `high`.
        low: Number at the left end.
        high: Number at the right end.
        caption: Quantity and unit.
    """
    font_size, padding, line_height = _compute_layout(canvas)
    width = round(min(MAX_FRACTION * canvas.shape[1] - 2 * padding, 16 * font_size))
    height = 2 * line_height + font_size
    if width < 8 * font_size or height + 2 * padding > MAX_FRACTION * canvas.shape[0]:
        return
    x, y = _draw_background(canvas, (height, width), padding, "right")
    draw_text(canvas, shorten_text(caption, font_size, width), (x, y), font_size, TEXT_COLOR)
    top, bottom = y + line_height, y + line_height + font_size
    canvas[top:bottom, x : x + width] = ramp[np.linspace(0, 255, width).round().astype(int)]
    next_left = x
    for value, text in zip(*_compute_ticks(low, high)):
        middle = x + (value - low) / (high - low) * (width - 1)
        text_width = measure_text_width(text, font_size)
        left = round(min(max(middle - text_width / 2, x), x + width - text_width))
        if left >= next_left:
            canvas[bottom - max(2, font_size // 3) : bottom, round(middle)] = TEXT_COLOR
            draw_text(canvas, text, (left, bottom), font_size, TEXT_COLOR)
            next_left = left + text_width + padding


def draw_flow_wheel(canvas: np.ndarray, wheel: np.ndarray, caption: str) -> None:
    """Draws a disc of colors with a caption below it at the bottom right of an (H, W, 3) uint8 image, in place.

    Args:
        canvas: The image, is modified.
        wheel: (D, D, 3) uint8 RGB; pixels outside the inscribed disc are not shown.
        caption: Meaning of the rim.
    """
    font_size, padding, line_height = _compute_layout(canvas)
    diameter = 6 * font_size
    width = max(diameter, measure_text_width(caption, font_size))
    height = diameter + line_height
    if width + 2 * padding > MAX_FRACTION * canvas.shape[1] or height + 2 * padding > MAX_FRACTION * canvas.shape[0]:
        return
    x, y = _draw_background(canvas, (height, width), padding, "right")
    disc = cv2.resize(wheel, (diameter, diameter), interpolation=cv2.INTER_AREA)
    inside = np.zeros((diameter, diameter), np.uint8)
    half = (diameter - 1) << 3
    cv2.circle(inside, (half, half), (diameter << 3) - 8, 255, -1, cv2.LINE_AA, 4)
    left = x + (width - diameter) // 2
    patch = canvas[y : y + diameter, left : left + diameter]
    opacity = inside[..., None] / np.float32(255)
    patch[:] = np.rint(patch * (1 - opacity) + disc * opacity)
    start = x + (width - measure_text_width(caption, font_size)) // 2
    draw_text(canvas, caption, (start, y + diameter), font_size, TEXT_COLOR)


def _compute_layout(canvas: np.ndarray) -> tuple[int, int, int]:
    """Font size, padding and line height in pixels."""
    font_size = compute_font_size(canvas.shape[:2])
    return font_size, max(3, font_size // 2), compute_line_height(font_size)


def _draw_background(canvas: np.ndarray, extent: tuple[int, int], padding: int, side: str) -> tuple[int, int]:
    """Darkens the background of a legend of (height, width) in a bottom corner; returns (x, y) of its content."""
    height, width = extent
    bottom = canvas.shape[0] - padding
    left = padding if side == "left" else canvas.shape[1] - width - 3 * padding
    top = bottom - height - 2 * padding
    blend_color(canvas[top:bottom, left : left + width + 2 * padding], BACKGROUND, BACKGROUND_OPACITY)
    return left + padding, top + padding


def _compute_ticks(low: float, high: float, max_steps: int = 5) -> tuple[list[float], list[str]]:
    """Round numbers in a range, in steps of 1, 2 or 5 times a power of ten, and their texts."""
    min_step = (high - low) / max_steps
    power = 10.0 ** math.floor(math.log10(min_step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min_step * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [index * step for index in range(first, last + 1)]
    return values, [f"{value:.{digits}f}" for value in values]
