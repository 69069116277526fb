"""Words written into an image, whatever its size: each is rendered alone and blended in place."""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densevision.draw.colors import Color

EAST_ASIAN = ("NotoSansCJK-Regular.ttc", "SourceHanSans.ttc", "msyh.ttc", "PingFang.ttc", "wqy-microhei.ttc")
"""Fonts that are sought on the system for writing that DejaVu Sans does not have."""


@lru_cache(maxsize=4096)
def width_of(text: str, letters: int) -> int:
    """Width in pixels of a line of text."""
    text = _one_line(text)
    return math.ceil(_typeface(letters, _is_east_asian(text)).getlength(text))


def line_height(letters: int) -> int:
    """Height in pixels of any line of text: equal for all, so that lines of different words align."""
    ascent, descent = _typeface(letters, False).getmetrics()
    return ascent + descent


def elided(text: str, letters: int, width: float) -> str:
    """The text, or as much of its beginning as fits into `width` pixels with an ellipsis; empty if nothing fits."""
    text = _one_line(text)
    if width_of(text, letters) <= width:
        return text
    for end in range(min(len(text) - 1, max(0, int(width))), 0, -1):
        shortened = text[:end].rstrip() + "…"
        if width_of(shortened, letters) <= width:
            return shortened
    return ""


def write(image: np.ndarray, text: str, corner: tuple[int, int], letters: int, color: Color) -> None:
    """Writes a line of text into an (H, W, 3) uint8 image, in place; what lies outside is cut off.

    Args:
        image: The image that is changed.
        text: What to write.
        corner: Top-left (x, y) of the line.
        letters: Height of the letters in pixels.
        color: RGB.
    """
    alpha = _rendered(_one_line(text), letters)
    x, y = corner
    left, top = max(x, 0), max(y, 0)
    patch = image[top : max(y + alpha.shape[0], 0), left : max(x + alpha.shape[1], 0)]
    part = alpha[top - y :, left - x :][: patch.shape[0], : patch.shape[1], None] / np.float32(255)
    patch[:] = np.rint(patch * (1 - part) + np.asarray(color, np.float32) * part)


@lru_cache(maxsize=2048)
def _rendered(text: str, letters: int) -> np.ndarray:
    """Coverage of a line of text, (height, width) uint8, read-only."""
    font = _typeface(letters, _is_east_asian(text))
    canvas = Image.new("L", (max(1, width_of(text, letters)), line_height(letters)))
    baseline = _typeface(letters, False).getmetrics()[0]
    ImageDraw.Draw(canvas).text((0, baseline), text, font=font, fill=255, anchor="ls")
    return np.asarray(canvas)


@lru_cache(maxsize=64)
def _typeface(letters: int, east_asian: bool) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans along; looking up where it is does not import it.
    matplotlib = importlib.util.find_spec("matplotlib")
    folder = Path(matplotlib.origin).parent if matplotlib and matplotlib.origin else Path()
    ours = folder / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in (*(EAST_ASIAN if east_asian else ()), str(ours)):
        try:
            return ImageFont.truetype(name, letters)
        except OSError:
            continue
    return ImageFont.load_default(letters)


def _is_east_asian(text: str) -> bool:
    return any("\u2e80" <= letter <= "\uffdc" for letter in text)


def _one_line(text: str) -> str:
    """Text without line breaks and control characters, which have no place in a label."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
