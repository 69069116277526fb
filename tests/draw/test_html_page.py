"""HTML pages: escaped text, embedded images, no network access."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from densevision.draw.html_page import HTMLPage
from densevision.errors import DataError, UsageError

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'single' </main>\nsecond line"
EMPTY = {"meta", "img"}


class _Reader(HTMLParser):
    """Parses a page, and checks that all tags are closed."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append((self.open[-1], data))

    def within(self, tag: str) -> list[str]:
        return [data for place, data in self.words if place == tag]


def _decode_images(page: str) -> list[np.ndarray]:
    data = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(item))).convert("RGB")) for item in data]


def _build_full_page() -> HTMLPage:
    photo = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    page = HTMLPage(HOSTILE).add_heading(HOSTILE).add_heading("part", 3).add_text(HOSTILE).add_code(HOSTILE)
    page.add_table([[HOSTILE, 1.5], ["b", None]], ["name", HOSTILE], HOSTILE).add_numbers({"AP": 0.5})
    return page.add_image(photo, HOSTILE).add_images([photo[:5, :7], photo[:9, :9]], [HOSTILE])


def test_html_page__text_is_escaped():
    reader = _Reader(_build_full_page().render())
    assert "script" not in reader.tags
    for tag in ("title", "h1", "h2", "p", "pre", "caption", "td", "th", "figcaption"):
        assert HOSTILE in reader.within(tag), tag
    assert ("alt", HOSTILE) in reader.attributes


def test_html_page__has_no_external_references():
    page = re.sub(r'src="data:image/\w+;base64,[A-Za-z0-9+/=]+"', "", _build_full_page().render())
    for word in ("http", "src=", "href", "url(", "@import", "<script", "//"):
        assert word not in page.replace("&lt;script", ""), word


def test_html_page__small_images_are_exact_and_large_ones_close():
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    smooth = np.indices((900, 900)).sum(0)[..., None] // np.array([8, 9, 10])
    large = (smooth + np.random.default_rng(0).integers(0, 30, (900, 900, 3))).astype(np.uint8)
    page = HTMLPage("images").add_image(noise).add_image(large).render()
    first, second = _decode_images(page)
    np.testing.assert_array_equal(first, noise)
    assert second.shape == large.shape and np.abs(second.astype(int) - large).mean() < 8
    assert "image/jpeg" in page


def test_html_page__files_are_embedded_unchanged(tmp_path):
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "a.png")
    page = HTMLPage("file").add_image(tmp_path / "a.png").render()
    assert base64.b64encode((tmp_path / "a.png").read_bytes()).decode() in page


def test_html_page__unsupported_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png"):
        HTMLPage("x").add_image(tmp_path / "absent.png")
    with pytest.raises(UsageError, match=r"\.tif"):
        HTMLPage("x").add_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.581234, "0.5812"),
        (np.float32(32.456), "32.46"),
        (123456.7, "123457"),
        (1.2345e-5, "1.23e-05"),
        (0.0, "0.0000"),
        (7, "7"),
        (np.int64(1200000), "1200000"),
        (float("nan"), "—"),
        (None, "—"),
        (True, "True"),
        ("0.5", "0.5"),
    ],
)
def test_add_table__numbers(value, text):
    assert _Reader(HTMLPage("t").add_table([[value]]).render()).within("td") == [text]


def test_add_table__columns_of_numbers_are_right_aligned():
    page = HTMLPage("t").add_table([["a", 1], ["b", None]], ["name", "count"]).render()
    assert re.findall(r'<(t[hd]) class="number">([^<]+)<', page) == [("th", "count"), ("td", "1"), ("td", "—")]


def test_html_page__viewport_dark_mode_and_atomic_write(tmp_path):
    path = _build_full_page().write(tmp_path / "out" / "page.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    assert [item.name for item in path.parent.iterdir()] == ["page.html"]


def test_html_page__without_content():
    assert _Reader(HTMLPage("empty").render()).within("h1") == ["empty"]
