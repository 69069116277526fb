"""Text in images: measured, shortened and drawn, with fonts that have its characters."""

from __future__ import annotations

import importlib.util
import logging
import math
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densevision.draw.colors import Color

__all__ = [
    "compute_line_height",
    "draw_text",
    "find_fonts",
    "measure_text_width",
    "shorten_text",
]

log = logging.getLogger("densevision")

FALLBACK_FONTS = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSansCJKsc-Regular.otf",
        "SourceHanSans.ttc",
        "wqy-microhei.ttc",
        "wqy-zenhei.ttc",
    ),
    *("DroidSansFallbackFull.ttf", "msyh.ttc", "malgun.ttf", "meiryo.ttc", "PingFang.ttc", "Arial Unicode.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "Nirmala.ttf", "LeelawUI.ttf"),
)
"""Fonts that are searched on the system for characters that DejaVu Sans lacks, such as Chinese ones."""
_UNASSIGNED = "\U0010ffff"
"""A character that no font has: what a font draws for it, it draws for every missing one."""
_reported: set[str] = set()
"""Missing characters that a warning has named."""


@lru_cache(maxsize=4096)
def measure_text_width(text: str, font_size: int) -> int:
    """Width of a line of text in pixels."""
    text = _join_lines(text)
    return math.ceil(_load_font(_select_font(text), font_size).getlength(text))


def compute_line_height(font_size: int) -> int:
    """Height of a line of text in pixels: the same for all texts, so that lines align."""
    ascent, descent = _load_font(_find_default_font(), font_size).getmetrics()
    return ascent + descent


def shorten_text(text: str, font_size: int, width: float) -> str:
    """Shortens a text with an ellipsis to at most `width` pixels; empty if nothing fits."""
    text = _join_lines(text)
    if measure_text_width(text, font_size) <= width:
        return text
    for end in range(min(len(text) - 1, max(0, int(width))), 0, -1):
        shortened = text[:end].rstrip() + "…"
        if measure_text_width(shortened, font_size) <= width:
            return shortened
    return ""


def draw_text(image: np.ndarray, text: str, position: tuple[int, int], font_size: int, color: Color) -> None:
    """Draws a line of text into an image, in place; parts outside the image are clipped.

    Args:
        image: (H, W, 3) uint8, is modified.
        text: The text; line breaks become spaces.
        position: Top-left (x, y) of the line.
        font_size: Font size in pixels.
        color: RGB.
    """
    alpha = _render(_join_lines(text), font_size)
    x, y = position
    left, top = max(x, 0), max(y, 0)
    patch = image[top : max(y + alpha.shape[0], 0), left : max(x + alpha.shape[1], 0)]
    opacity = alpha[top - y :, left - x :][: patch.shape[0], : patch.shape[1], None] / np.float32(255)
    patch[:] = np.rint(patch * (1 - opacity) + np.asarray(color, np.float32) * opacity)


def find_fonts(texts: Iterable[str]) -> list[str]:
    """Finds the font files that are needed to draw some texts, the default font first.

    Characters that no installed font has are drawn as boxes; a warning names each of them once.
    """
    files = [_find_default_font()]
    for text in texts:
        file = _select_font(_join_lines(text))
        if file not in files:
            files.append(file)
    return files


@lru_cache(maxsize=2048)
def _render(text: str, font_size: int) -> np.ndarray:
    """Coverage of a line of text, (height, width) uint8, read-only."""
    size = max(1, measure_text_width(text, font_size)), compute_line_height(font_size)
    image = Image.new("L", size)
    baseline = _load_font(_find_default_font(), font_size).getmetrics()[0]
    font = _load_font(_select_font(text), font_size)
    ImageDraw.Draw(image).text((0, baseline), text, font=font, fill=255, anchor="ls")
    return np.asarray(image)


@lru_cache(maxsize=4096)
def _select_font(text: str) -> str:
    """The font file that lacks the fewest characters of a text: the default font, if it has all of them."""
    font = _find_default_font()
    missing = _find_missing_characters(text, font)
    if not missing:
        return font
    for name in FALLBACK_FONTS:
        try:
            file = str(ImageFont.truetype(name, 16).path)
        except OSError:  # not installed
            continue
        missing_in_file = _find_missing_characters(text, file)
        if len(missing_in_file) < len(missing):
            font, missing = file, missing_in_file
        if not missing:
            break
    unreported = sorted(missing - _reported)
    if unreported:
        _reported.update(unreported)
        message = "no installed font has the characters %s, drawn as boxes: install a font such as Noto Sans CJK"
        log.warning(message, "".join(unreported))
    return font


def _find_missing_characters(text: str, file: str) -> set[str]:
    return {character for character in text if not _has_glyph(character, file)}


@lru_cache(maxsize=8192)
def _has_glyph(character: str, file: str) -> bool:
    if unicodedata.category(character) in ("Cf", "Zs"):  # invisible
        return True
    font = _load_font(file, 24)
    mask, placeholder = font.getmask(character), font.getmask(_UNASSIGNED)
    return (mask.size, bytes(mask)) != (placeholder.size, bytes(placeholder))


@lru_cache(maxsize=1)
def _find_default_font() -> str:
    """The file of DejaVu Sans, which is part of matplotlib; empty if it is not installed."""
    # Looking up where the package is does not import it.
    matplotlib = importlib.util.find_spec("matplotlib")
    folder = Path(matplotlib.origin).parent if matplotlib and matplotlib.origin else Path()
    file = folder / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return str(file) if file.exists() else ""


@lru_cache(maxsize=64)
def _load_font(file: str, font_size: int) -> ImageFont.FreeTypeFont:
    """Loads a font file; Pillow's own font where the name is empty."""
    font = ImageFont.truetype(file, font_size) if file else ImageFont.load_default(font_size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size, Pillow's own font is scalable as well
    return font


def _join_lines(text: str) -> str:
    """Replaces line breaks and control characters by spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
