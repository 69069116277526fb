"""A judgement as a page: numbers with intervals, plots, tables, best and worst pictures, and how to repeat it.

One folder that opens without a network: index.html with everything in it, and the same as data beside it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.draw.page import Page
from densevision.draw.plots import histogram
from densevision.draw.sheet import contact_sheet
from densevision.engine.basis import show_basis, show_origin
from densevision.engine.judgement import Judgement, side_by_side
from densevision.io.files import write_text
from densevision.metrics.bootstrap import DRAWS, LEVEL, Interval, intervals
from densevision.metrics.glossary import meaning

WORST, BEST = 6, 3
"""Pictures that are drawn."""
SHORT = 12
"""Draws that are enough to say that there is no more to say: of one picture there is no interval."""


def write_report(judgement: Judgement, out: Path, command: str = "") -> Path:
    """Writes index.html, report.json, pictures.csv and plots.

    Args:
        judgement: What is told.
        out: The folder.
        command: The command that repeats it.

    Returns:
        The page.
    """
    report = judgement.report
    pictures = judgement.metric.by_picture()
    spans = intervals(pictures, DRAWS if len(pictures.ids) > 1 else SHORT)
    judged = {**report.to_dict(), "intervals": {name: list(map(_finite, span)) for name, span in spans.items()}}
    write_text(out / "report.json", json.dumps(judged, allow_nan=False, ensure_ascii=False, indent=1) + "\n")
    write_text(out / "pictures.csv", _table_of(judgement))
    judgement.metric.plots(out / "plots")
    page = Page(f"{report.task}: evaluation")
    page.text(judgement.origin)
    _numbers(page, judgement, spans)
    _pictures(page, judgement, out / "plots")
    _tables(page, judgement)
    _plots(page, out / "plots")
    show_basis(page, report, judgement.card)
    show_origin(page, command)
    return page.write(out / "index.html")


def command_line(task: str, verb: str, options: Mapping[str, Any]) -> str:
    """What to type in order to get the same again.

    >>> command_line("depth", "score", {"truth": "a b", "images": None, "set": ["x=1"], "tta": True})
    "densevision depth score --truth 'a b' --set x=1 --tta"
    """
    words = ["densevision", task, verb]
    for name, value in options.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None and one is not False:
                words += [f"--{name.replace('_', '-')}", *([] if one is True else [str(one)])]
    return shlex.join(words)


def _numbers(page: Page, judgement: Judgement, spans: Mapping[str, Interval]) -> None:
    report = judgement.report
    page.heading("Numbers")
    rows = []
    for name, value in report.metrics.items():
        span = spans.get(name, Interval(math.nan, math.nan))
        arrow = "↑" if meaning(name).rising else "↓"
        rows.append([name, value, arrow, span.low, span.high, meaning(name).text])
    level = f"{LEVEL:.0%}"
    page.table(rows, ("", "value", "", f"{level} from", "to", "what it is"))
    page.text(
        f"↑ more is better, ↓ less. The intervals are of {DRAWS:,} draws of the pictures, with replacement: they tell "
        "how far the numbers would move with other pictures of the same kind, and nothing of other kinds."
    )


def _pictures(page: Page, judgement: Judgement, plots: Path) -> None:
    name, ranked = judgement.ranked()
    if not ranked:
        return
    page.heading("Pictures")
    values = [value for _, value in ranked if math.isfinite(value)]
    if len(values) > 1:
        histogram(plots / "pictures.png", values, name)
        page.picture(plots / "pictures.png", f"{name} of the pictures one by one")
    worst = ranked[: max(1, min(WORST, len(ranked) - BEST))]
    best = ranked[::-1][: min(BEST, len(ranked) - len(worst))]
    parts = [("Worst", worst), ("Best", best)]
    for title, chosen in parts:
        if not chosen:
            continue
        page.heading(f"{title} by {name}", 3)
        numbers = dict(chosen)
        for look in judgement.looks([id for id, _ in chosen]):
            drawn, captions = side_by_side(look)
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(1600, 480 * len(drawn)))
            page.picture(sheet, f"{look.id}: {name} {numbers[look.id]:.4g}")


def _tables(page: Page, judgement: Judgement) -> None:
    ids = set(judgement.metric.by_picture().ids)
    shown = {title: rows for title, rows in judgement.report.tables.items() if rows and not rows.keys() <= ids}
    if shown:
        page.heading("Parts")
    for title, rows in shown.items():
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = [[key, *(_count(row.get(column)) for column in columns)] for key, row in rows.items()]
        page.heading(title, 3)
        page.table(cells, ("", *columns))


def _plots(page: Page, folder: Path) -> None:
    files = [file for file in sorted(folder.glob("*.png")) if file.name != "pictures.png"]
    if files:
        page.heading("Plots")
        page.pictures(files, [file.stem.replace("_", " ") for file in files])


def _table_of(judgement: Judgement) -> str:
    """The numbers of each picture as CSV."""
    pictures = judgement.metric.by_picture()
    each = pictures.each()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", *each])
    for row, id in enumerate(pictures.ids):
        writer.writerow(
            [id, *(f"{values[row]:.6g}" if not math.isnan(values[row]) else "" for values in each.values())]
        )
    return text.getvalue()


def _count(value: float | None) -> float | int | None:
    """Whole numbers, such as counts of pixels, without decimals."""
    return int(value) if value is not None and math.isfinite(value) and value >= 10 and value == int(value) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
