"""A evaluation as a page: numbers with intervals, plots, tables, best and worst images, and how to repeat it.

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

from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.html_page import Page
from densevision.draw.plots import histogram
from densevision.evaluation.provenance import show_basis, show_origin
from densevision.evaluation.result import EvaluationResult, side_by_side
from densevision.io.atomic_write import write_text
from densevision.metrics.bootstrap import DRAWS, LEVEL, Interval, intervals
from densevision.metrics.metric_info import metric_info

WORST, BEST = 6, 3
"""Images that are drawn."""
SHORT = 12
"""Draws that are enough to say that there is no more to say: of one image there is no interval."""


def write_report(evaluation_result: EvaluationResult, out: Path, command: str = "") -> Path:
    """Writes index.html, report.json, images.csv and plots.

    Args:
        evaluation: What is told.
        out: The folder.
        command: The command that repeats it.

    Returns:
        The page.
    """
    report = evaluation_result.report
    images = evaluation_result.metric.per_image()
    spans = intervals(images, DRAWS if len(images.ids) > 1 else SHORT)
    judged = {**report.to_dict(), "intervals": {name: list(map(_finite, span)) for name, span in spans.items()}}
    write_text(out / "report.json", json.dumps(judged, allow_nan=False, ensure_ascii=False, indent=1) + "\n")
    write_text(out / "images.csv", _table_of(evaluation_result))
    evaluation_result.metric.plots(out / "plots")
    page = Page(f"{report.task}: evaluation")
    page.text(evaluation_result.origin)
    _numbers(page, evaluation_result, spans)
    _images(page, evaluation_result, out / "plots")
    _tables(page, evaluation_result)
    _plots(page, out / "plots")
    show_basis(page, report, evaluation_result.card)
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


def _numbers(page: Page, evaluation_result: EvaluationResult, spans: Mapping[str, Interval]) -> None:
    report = evaluation_result.report
    page.heading("Numbers")
    rows = []
    for name, value in report.metrics.items():
        span = spans.get(name, Interval(math.nan, math.nan))
        arrow = "↑" if metric_info(name).higher_is_better else "↓"
        rows.append([name, value, arrow, span.low, span.high, metric_info(name).text])
    level = f"{LEVEL:.0%}"
    page.table(rows, ("", "value", "", f"{level} from", "to", "what it is"))
    page.text(
        f"↑ more is better, ↓ less. The intervals are of {DRAWS:,} draws of the images, with replacement: they tell "
        "how far the numbers would move with other images of the same kind, and nothing of other kinds."
    )


def _images(page: Page, evaluation_result: EvaluationResult, plots: Path) -> None:
    name, ranked = evaluation_result.ranked()
    if not ranked:
        return
    page.heading("Images")
    values = [value for _, value in ranked if math.isfinite(value)]
    if len(values) > 1:
        histogram(plots / "images.png", values, name)
        page.image(plots / "images.png", f"{name} of the images one by one")
    worst = ranked[: max(1, min(WORST, len(ranked) - BEST))]
    best = ranked[::-1][: min(BEST, len(ranked) - len(worst))]
    parts = [("Worst", worst), ("Best", best)]
    for title, chosen in parts:
        if not chosen:
            continue
        page.heading(f"{title} by {name}", 3)
        numbers = dict(chosen)
        for look in evaluation_result.examples([id for id, _ in chosen]):
            drawn, captions = side_by_side(look)
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(1600, 480 * len(drawn)))
            page.image(sheet, f"{look.id}: {name} {numbers[look.id]:.4g}")


def _tables(page: Page, evaluation_result: EvaluationResult) -> None:
    ids = set(evaluation_result.metric.per_image().ids)
    shown = {title: rows for title, rows in evaluation_result.report.tables.items() if rows and not rows.keys() <= ids}
    if shown:
        page.heading("Parts")
    for title, rows in shown.items():
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = [[key, *(_count(row.get(column)) for column in columns)] for key, row in rows.items()]
        page.heading(title, 3)
        page.table(cells, ("", *columns))


def _plots(page: Page, folder: Path) -> None:
    files = [file for file in sorted(folder.glob("*.png")) if file.name != "images.png"]
    if files:
        page.heading("Plots")
        page.images(files, [file.stem.replace("_", " ") for file in files])


def _table_of(evaluation_result: EvaluationResult) -> str:
    """The numbers of each image as CSV."""
    images = evaluation_result.metric.per_image()
    each = images.each()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *each])
    for row, id in enumerate(images.ids):
        writer.writerow(
            [id, *(f"{values[row]:.6g}" if not math.isnan(values[row]) else "" for values in each.values())]
        )
    return text.getvalue()


def _count(value: float | None) -> float | int | None:
    """Whole numbers, such as counts of pixels, without decimals."""
    return int(value) if value is not None and math.isfinite(value) and value >= 10 and value == int(value) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
