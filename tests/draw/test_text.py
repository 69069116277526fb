"""Words in an image: they fit, they stay inside, and they need no font but the one that is there."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.draw import text
from densevision.draw.text import shorten_text, compute_line_height, measure_text_width, draw_text


def test_elided__fits_and_keeps_the_beginning():
    name = "a class name that somebody wrote with much love for detail"
    for width in (30, 60, 120, 240):
        short = shorten_text(name, 12, width)
        assert measure_text_width(short, 12) <= width
        assert short.endswith("…") and name.startswith(short[:-1])


def test_elided__leaves_what_fits_and_drops_what_cannot():
    assert shorten_text("car", 12, 100) == "car"
    assert shorten_text("car", 12, 2) == ""
    assert shorten_text("", 12, 100) == ""


def test_elided__line_breaks_and_control_characters_become_spaces():
    assert shorten_text("a\nb\t\x00c", 12, 500) == "a b c"


def test_line_height__same_for_all_words():
    image = np.zeros((200, 400, 3), np.uint8)
    for name in ("Ágjp", "...", "x"):
        canvas = image.copy()
        draw_text(canvas, name, (0, 0), 20, (255, 255, 255))
        assert canvas[compute_line_height(20) :].max() == 0


@pytest.mark.parametrize("corner", [(-15, -8), (35, 30), (-500, 3), (3, 500), (500, -500)])
def test_write__outside_is_cut_off(corner):
    canvas = np.zeros((40, 60, 3), np.uint8)
    draw_text(canvas, "word", corner, 16, (255, 255, 255))
    wide = np.zeros((1200, 1200, 3), np.uint8)
    draw_text(wide, "word", (corner[0] + 550, corner[1] + 550), 16, (255, 255, 255))
    np.testing.assert_array_equal(canvas, wide[550:590, 550:610])


def test_write__full_coverage_is_the_color():
    canvas = np.full((40, 60, 3), 100, np.uint8)
    draw_text(canvas, "█", (0, 0), 24, (7, 77, 177))
    assert (canvas == (7, 77, 177)).all(2).any()


def test_typeface__falls_back_to_pillows_own(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    assert text._typeface.__wrapped__(18, True).getlength("word") > 0
