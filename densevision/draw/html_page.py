"""One page to look at: text, tables and images in a single HTML file that asks nothing of the network."""

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

from densevision.draw.canvas import canvas_of
from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import write_text

LOSSLESS = 1 << 19
"""Bytes up to which an array is embedded as PNG; larger ones become JPEG of high quality."""
KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif", ".bmp": "bmp"}

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


class Page:
    """A page that grows from top to bottom and is written at the end.

    All text is shown as it is given: nothing in it is read as HTML. Images are embedded.

    Args:
        title: Heading of the page and title of its window.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str, level: int = 2) -> Page:
        """Begins a section (level 2) or a part of one (level 3)."""
        return self._add(f"<h{level}>{html.escape(text)}</h{level}>")

    def text(self, text: str) -> Page:
        """Adds a paragraph; its line breaks are kept."""
        return self._add(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> Page:
        """Adds lines in a monospaced font, such as commands."""
        return self._add(f"<pre>{html.escape(text)}</pre>")

    def fold(self, title: str, text: str) -> Page:
        """Adds monospaced lines that are seen once their title is clicked."""
        return self._add(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>")

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str] = (), caption: str = "") -> Page:
        """Adds a table; numbers are aligned at the right, and those that do not exist are shown as a dash.

        Args:
            rows: Cells row by row: text or numbers; a float is shown with as many digits as its size deserves.
            header: Names of the columns.
            caption: A line above the table.
        """
        head = "".join(_cell(name, "th", _numeric(rows, column)) for column, name in enumerate(header))
        cells = ["".join(_cell(cell, "td", cell is None or _is_number(cell)) for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>\n" for row in cells)
        title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        head = f"<thead><tr>{head}</tr></thead>\n" if header else ""
        return self._add(f'<div class="scroll"><table>{title}{head}<tbody>\n{body}</tbody></table></div>')

    def numbers(self, values: Mapping[str, float], caption: str = "") -> Page:
        """Adds named numbers as one row under their names."""
        return self.table([list(values.values())], list(values), caption)

    def image(self, image: np.ndarray | str | os.PathLike[str], caption: str = "") -> Page:
        """Adds an image.

        Args:
            image: (H, W, 3) uint8 RGB, or a file that browsers show (png, jpg, webp, gif, bmp), embedded as it is.
            caption: A line below it, which also stands for it where it cannot be seen.

        Raises:
            DataError: The array is not (H, W, 3) uint8, or the file cannot be read.
            UsageError: The file is none that browsers show.
        """
        return self._add(_figure(image, caption))

    def images(self, images: Sequence[np.ndarray | str | os.PathLike[str]], captions: Sequence[str] = ()) -> Page:
        """Adds images side by side, as many in a row as the window has room for."""
        captions = [*captions, *[""] * (len(images) - len(captions))]
        figures = "\n".join(_figure(image, caption) for image, caption in zip(images, captions))
        return self._add(f'<div class="row">\n{figures}\n</div>')

    def render(self) -> str:
        """The whole page as HTML."""
        title = html.escape(self.title)
        body = "\n".join(self._parts)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
            f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page whole or not at all."""
        write_text(path, self.render())
        return Path(path)

    def _add(self, part: str) -> Page:
        self._parts.append(part)
        return self


def _figure(image: np.ndarray | str | os.PathLike[str], caption: str) -> str:
    if isinstance(image, np.ndarray):
        kind, data = _encoded(canvas_of(image))
    else:
        kind, data = _read(Path(image))
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    text = html.escape(caption)
    below = f"<figcaption>{text}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{text}">{below}</figure>'


def _read(path: Path) -> tuple[str, bytes]:
    """A file's format and bytes."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        hint = f"Known: {', '.join(KINDS)}."
        raise UsageError("a page cannot show files of this form", file=path, value=path.suffix, hint=hint)
    try:
        return kind, path.read_bytes()
    except OSError as failure:
        raise DataError(f"cannot read the image: {failure.strerror}", file=path, hint="Check the path.") from None


def _encoded(image: np.ndarray) -> tuple[str, bytes]:
    """An image's format and bytes: exact where they are few."""
    encoded = Image.fromarray(image)
    exact = io.BytesIO()
    encoded.save(exact, "PNG")
    if exact.tell() <= LOSSLESS:
        return "png", exact.getvalue()
    small = io.BytesIO()
    # Without subsampling of color, which would smear the edges of letters and lines.
    encoded.save(small, "JPEG", quality=90, subsampling=0)
    return "jpeg", small.getvalue()


def _cell(value: object, tag: str, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f"<{tag}{kind}>{html.escape(_shown(value))}</{tag}>"


def _shown(value: object) -> str:
    if value is None or (_is_number(value) and not math.isfinite(value)):  # type: ignore[arg-type]
        return "—"
    if isinstance(value, (float, np.floating)):
        size = abs(value)
        if 0 < size < 1e-3:
            return f"{value:.2e}"
        return f"{value:.{4 if size < 10 else 2 if size < 1000 else 0}f}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _numeric(rows: Sequence[Sequence[object]], column: int) -> bool:
    """Whether a column holds numbers."""
    return any(_is_number(row[column]) for row in rows if column < len(row))
