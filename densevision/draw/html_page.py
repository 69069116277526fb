"""HTML pages with text, tables and images in one self-contained file."""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from densevision.draw.canvas import copy_canvas
from densevision.errors import DataError, UsageError
from densevision.escaping import escape_control
from densevision.io.atomic_write import write_text

__all__ = ["HTMLPage"]

MAX_PNG_BYTES = 1 << 19
"""Size up to which an array is embedded as PNG; larger ones are embedded as JPEG of high quality."""
MIME_TYPES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif", ".bmp": "bmp"}

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d1d1f; --soft: #6e6e73; --line: #e3e3e6;
  --plate: #f4f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161618; --ink: #ececee; --soft: #98989f; --line: #34343a; --plate: #202024; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; text-rendering: optimizeLegibility; }
main { max-width: 68rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.5rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 1.5rem; }
h2 { font-size: 1.4rem; line-height: 1.25; letter-spacing: -0.01em; margin: 3.5rem 0 1rem; padding-top: 1.25rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
p { max-width: 42rem; margin: 0 0 1rem; white-space: pre-line; }
pre { background: var(--plate); border-radius: 8px; padding: 0.9rem 1.1rem; overflow-x: auto;
  font: 0.875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.scroll { overflow-x: auto; margin: 1rem 0 1.5rem; }
table { border-collapse: collapse; font-size: 0.925rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.4rem; }
th, td { padding: 0.4rem 1.1rem 0.4rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; white-space: nowrap; }
.number { text-align: right; }
tbody tr:hover { background: var(--plate); }
summary { cursor: pointer; color: var(--soft); margin: 0 0 0.75rem; }
figure { margin: 1.25rem 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #fff; }
figcaption { color: var(--soft); font-size: 0.875rem; margin-top: 0.45rem; }
.row { display: grid; gap: 1.25rem; align-items: start; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.row figure { margin: 0; }
"""


class HTMLPage:
    """A page that is built from top to bottom and written at the end.

    All text is escaped: nothing in it is interpreted as HTML. Images are embedded. The methods return the page, so that
    calls can be chained.

    Args:
        title: Title of the page and of the browser window.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []

    def add_heading(self, text: str, level: int = 2) -> HTMLPage:
        """Adds the heading of a section (level 2) or subsection (3)."""
        return self._add(f"<h{level}>{_escape(text)}</h{level}>")

    def add_text(self, text: str) -> HTMLPage:
        """Adds a paragraph; line breaks are preserved."""
        return self._add(f"<p>{_escape(text)}</p>")

    def add_code(self, text: str) -> HTMLPage:
        """Adds text in a monospaced font, such as commands."""
        return self._add(f"<pre>{_escape(text)}</pre>")

    def add_collapsible(self, title: str, text: str) -> HTMLPage:
        """Adds monospaced text that is shown when its title is clicked."""
        return self._add(f"<details><summary>{_escape(title)}</summary><pre>{_escape(text)}</pre></details>")

    def add_table(self, rows: Sequence[Sequence[object]], header: Sequence[str] = (), caption: str = "") -> HTMLPage:
        """Adds a table; numbers are right-aligned, and undefined ones (None, NaN, infinite) are shown as a dash.

        Args:
            rows: Cells row by row: text or numbers; the digits of a float depend on its magnitude.
            header: Names of the columns.
            caption: A line above the table.
        """
        head = "".join(_render_cell(name, "th", _is_numeric(rows, column)) for column, name in enumerate(header))
        cells = ["".join(_render_cell(cell, "td", cell is None or _is_number(cell)) for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>\n" for row in cells)
        title = f"<caption>{_escape(caption)}</caption>" if caption else ""
        head = f"<thead><tr>{head}</tr></thead>\n" if header else ""
        return self._add(f'<div class="scroll"><table>{title}{head}<tbody>\n{body}</tbody></table></div>')

    def add_numbers(self, values: Mapping[str, float], caption: str = "") -> HTMLPage:
        """Adds a table with one row of named numbers."""
        return self.add_table([list(values.values())], list(values), caption)

    def add_image(self, image: np.ndarray | str | os.PathLike[str], caption: str = "") -> HTMLPage:
        """Adds an image.

        Args:
            image: (H, W, 3) uint8 RGB, or a file that browsers show (png, jpg, webp, gif, bmp), which is embedded
                unchanged.
            caption: A line below the image, also its alternative text.

        Raises:
            DataError: The array is not (H, W, 3) uint8, or the file cannot be read.
            UsageError: Browsers do not show files of this format.
        """
        return self._add(_render_figure(image, caption))

    def add_images(
        self, images: Sequence[np.ndarray | str | os.PathLike[str]], captions: Sequence[str] = ()
    ) -> HTMLPage:
        """Adds images side by side, as many per row as fit into the window."""
        captions = [*captions, *[""] * (len(images) - len(captions))]
        figures = "\n".join(_render_figure(image, caption) for image, caption in zip(images, captions))
        return self._add(f'<div class="row">\n{figures}\n</div>')

    def render(self) -> str:
        """Renders the page as HTML."""
        title = _escape(self.title)
        body = "\n".join(self._parts)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
            f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page atomically."""
        write_text(path, self.render())
        return Path(path)

    def _add(self, part: str) -> HTMLPage:
        self._parts.append(part)
        return self


def _render_figure(image: np.ndarray | str | os.PathLike[str], caption: str) -> str:
    if isinstance(image, np.ndarray):
        mime_type, data = _encode_image(copy_canvas(image))
    else:
        mime_type, data = _read_file(Path(image))
    source = f"data:image/{mime_type};base64,{base64.b64encode(data).decode('ascii')}"
    text = _escape(caption)
    below = f"<figcaption>{text}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{text}">{below}</figure>'


def _read_file(path: Path) -> tuple[str, bytes]:
    """MIME type and content of an image file."""
    mime_type = MIME_TYPES.get(path.suffix.lower())
    if mime_type is None:
        hint = f"Supported: {', '.join(MIME_TYPES)}."
        raise UsageError("browsers do not show this image format", file=path, value=path.suffix, hint=hint)
    try:
        return mime_type, path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the image: {error.strerror}", file=path, hint="Check the path.") from None


def _encode_image(image: np.ndarray) -> tuple[str, bytes]:
    """MIME type and encoded image: lossless if that is small."""
    pillow_image = Image.fromarray(image)
    png = io.BytesIO()
    pillow_image.save(png, "PNG")
    if png.tell() <= MAX_PNG_BYTES:
        return "png", png.getvalue()
    jpeg = io.BytesIO()
    # Without chroma subsampling, which would smear the edges of text and lines.
    pillow_image.save(jpeg, "JPEG", quality=90, subsampling=0)
    return "jpeg", jpeg.getvalue()


def _render_cell(value: object, tag: str, is_number: bool) -> str:
    attribute = ' class="number"' if is_number else ""
    return f"<{tag}{attribute}>{_escape(_format_value(value))}</{tag}>"


def _escape(text: str) -> str:
    """Text as HTML, without effective markup or control characters."""
    return html.escape(escape_control(text))


def _format_value(value: object) -> str:
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return "—"
    if isinstance(value, (float, np.floating)):
        size = abs(value)
        if 0 < size < 1e-3:
            return f"{value:.2e}"
        return f"{value:.{4 if size < 10 else 2 if size < 1000 else 0}f}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_numeric(rows: Sequence[Sequence[object]], column: int) -> bool:
    """Whether a column has numbers."""
    return any(_is_number(row[column]) for row in rows if column < len(row))
