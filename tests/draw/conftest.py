"""Fonts for tests of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from densevision.draw import text


@pytest.fixture
def clear_font_caches() -> Iterator[None]:
    """Forgets the fonts that were found, before and after the test."""

    def clear() -> None:
        for function in (text._find_default_font, text._select_font, text._render, text.measure_text_width):
            function.cache_clear()
        text._reported.clear()

    clear()
    yield
    clear()


@pytest.fixture
def make_font() -> Callable[[Path, str], str]:
    """Writes a font with a glyph for one character: a full rectangle."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    def make(path: Path, character: str) -> str:
        pens = {name: TTGlyphPen(None) for name in (".notdef", "block")}
        for point, move in zip([(100, 0), (100, 800), (900, 800), (900, 0)], ["moveTo"] + ["lineTo"] * 3):
            getattr(pens["block"], move)(point)
        pens["block"].closePath()
        builder = FontBuilder(1000)
        builder.setupGlyphOrder(list(pens))
        builder.setupCharacterMap({ord(character): "block"})
        builder.setupGlyf({name: pen.glyph() for name, pen in pens.items()})
        builder.setupHorizontalMetrics(dict.fromkeys(pens, (1000, 0)))
        builder.setupHorizontalHeader(ascent=800, descent=-200)
        builder.setupNameTable({"familyName": "Block Test", "styleName": "Regular"})
        builder.setupOS2()
        builder.setupPost()
        builder.save(path)
        return str(path)

    return make
