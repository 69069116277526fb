"""Text in images: widths, clipping, and fonts for characters that the default font lacks."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.draw import text
from densevision.draw.text import compute_line_height, draw_text, find_fonts, measure_text_width, shorten_text


def test_shorten_text__fits_and_keeps_the_beginning():
    name = "a very long class name with many words in it"
    for width in (30, 60, 120, 240):
        short = shorten_text(name, 12, width)
        assert measure_text_width(short, 12) <= width
        assert short.endswith("…") and name.startswith(short[:-1])


def test_shorten_text__short_and_narrow():
    assert shorten_text("car", 12, 100) == "car"
    assert shorten_text("car", 12, 2) == ""
    assert shorten_text("", 12, 100) == ""


def test_shorten_text__line_breaks_and_control_characters_become_spaces():
    assert shorten_text("a\nb\t\x00c", 12, 500) == "a b c"


def test_compute_line_height__same_for_all_texts():
    image = np.zeros((200, 400, 3), np.uint8)
    for name in ("Ágjp", "...", "x"):
        canvas = image.copy()
        draw_text(canvas, name, (0, 0), 20, (255, 255, 255))
        assert canvas[compute_line_height(20) :].max() == 0


@pytest.mark.parametrize("position", [(-15, -8), (35, 30), (-500, 3), (3, 500), (500, -500)])
def test_draw_text__outside_is_clipped(position):
    canvas = np.zeros((40, 60, 3), np.uint8)
    draw_text(canvas, "word", position, 16, (255, 255, 255))
    wide = np.zeros((1200, 1200, 3), np.uint8)
    draw_text(wide, "word", (position[0] + 550, position[1] + 550), 16, (255, 255, 255))
    np.testing.assert_array_equal(canvas, wide[550:590, 550:610])


def test_draw_text__full_coverage_is_the_color():
    canvas = np.full((40, 60, 3), 100, np.uint8)
    draw_text(canvas, "█", (0, 0), 24, (7, 77, 177))
    assert (canvas == (7, 77, 177)).all(2).any()


@pytest.mark.usefixtures("clear_font_caches")
def test_draw_text__works_without_matplotlib(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    assert text._find_default_font() == "" and measure_text_width("word", 18) > 0


@pytest.mark.usefixtures("clear_font_caches")
@pytest.mark.parametrize("character", ["人", "ก", "अ"])
def test_draw_text__font_with_the_missing_character_is_used(character, monkeypatch, tmp_path, caplog, make_font):
    font = make_font(tmp_path / "block.ttf", character)
    monkeypatch.setattr(text, "FALLBACK_FONTS", ("absent.ttf", font))
    canvas = np.zeros((60, 60, 3), np.uint8)
    draw_text(canvas, character, (0, 0), 40, (255, 255, 255))
    rows, columns = np.nonzero(canvas[..., 0] > 200)
    assert len(rows) > 0.9 * 32 * 32 and np.ptp(rows) + 1 == np.ptp(columns) + 1 == 32
    assert find_fonts(["car", character])[1:] == [font] and not caplog.text


@pytest.mark.usefixtures("clear_font_caches")
def test_draw_text__missing_characters_are_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(text, "FALLBACK_FONTS", ())
    for name in ("人", "人 person", "Größe, größer, Ж, λ, \u0645"):
        draw_text(np.zeros((60, 60, 3), np.uint8), name, (0, 0), 20, (255, 255, 255))
    assert len(caplog.records) == 1 and "人" in caplog.text
