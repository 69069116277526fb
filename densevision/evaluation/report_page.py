"""Report pages: metrics with intervals, plots, tables, best and worst images, and how to reproduce them.

A page is one folder that works offline: index.html with everything embedded, and the same data beside it.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.draw.contact_sheet import make_contact_sheet
from densevision.draw.html_page import HTMLPage
from densevision.draw.plots import plot_histogram
from densevision.evaluation.provenance import add_provenance, add_versions
from densevision.evaluation.result import EvaluationResult, Example, draw_side_by_side
from densevision.io.atomic_write import write_text
from densevision.io.json_writer import write_json
from densevision.metrics.bootstrap import DRAWS, LEVEL, Interval, compute_intervals
from densevision.tasks import get_metric_info

__all__ = ["format_command", "write_report"]

NUM_WORST, NUM_BEST = 6, 3
"""Images that are drawn."""


def write_report(evaluation: EvaluationResult, out: Path, command: str = "") -> Path:
    """Writes index.html, report.json, images.csv and plots.

    Args:
        evaluation: The evaluation.
        out: The folder.
        command: The command that reproduces it.

    Returns:
        Path of the page.
    """
    report = evaluation.report
    intervals = compute_intervals(evaluation.metric.per_image())
    spans = {name: list(interval) for name, interval in intervals.items()}
    write_json(out / "report.json", {**report.to_dict(), "intervals": spans})
    write_text(out / "images.csv", _format_image_table(evaluation))
    evaluation.metric.draw_plots(out / "plots")
    page = HTMLPage(f"{report.task}: evaluation")
    page.add_text(evaluation.origin)
    _add_metrics(page, evaluation, intervals)
    _add_images(page, evaluation, out / "plots")
    _add_tables(page, evaluation)
    _add_plots(page, out / "plots")
    add_provenance(page, report, evaluation.card)
    add_versions(page, command)
    return page.write(out / "index.html")


def format_command(task: str, verb: str, options: Mapping[str, Any]) -> str:
    """The command line with these options.

    >>> format_command("depth", "score", {"truth": "a b", "images": None, "set": ["x=1"], "tta": True})
    "densevision depth score --truth 'a b' --set x=1 --tta"
    """
    words = ["densevision", task, verb]
    for name, values in options.items():
        for value in values if isinstance(values, (list, tuple)) else [values]:
            if value is not None and value is not False:
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def draw_example(
    page: HTMLPage, example: Example, caption: str, panels: tuple[list[Any], list[str]] | None = None, width: int = 1600
) -> None:
    """Adds the panels of an example to a page, by default those of `draw_side_by_side`."""
    images, captions = panels or draw_side_by_side(example)
    sheet = make_contact_sheet(images, captions, columns=len(images), width=min(width, 480 * len(images)))
    page.add_image(sheet, f"{example.caption}: {caption}")


def _add_metrics(page: HTMLPage, evaluation: EvaluationResult, intervals: Mapping[str, Interval]) -> None:
    page.add_heading("Metrics")
    rows = []
    for name, value in evaluation.report.metrics.items():
        interval = intervals.get(name, Interval(math.nan, math.nan))
        info = get_metric_info(evaluation.report.task, name)
        rows.append([name, value, "↑" if info.higher_is_better else "↓", *interval, info.text])
    page.add_table(rows, ("", "value", "", f"{LEVEL:.0%} from", "to", "meaning"))
    page.add_text(
        f"↑ higher is better, ↓ lower is better. Intervals come from {DRAWS:,} resamples of the images with "
        "replacement: they show how far the metrics would vary with other images of the same kind."
    )


def _add_images(page: HTMLPage, evaluation: EvaluationResult, plots: Path) -> None:
    name, ranked = evaluation.rank_images()
    if not ranked:
        return
    page.add_heading("Images")
    values = [value for _, value in ranked if math.isfinite(value)]
    if len(values) > 1:
        plot_histogram(plots / "images.png", values, name)
        page.add_image(plots / "images.png", f"{name} of single images")
    worst = ranked[: max(1, min(NUM_WORST, len(ranked) - NUM_BEST))]
    best = ranked[::-1][: min(NUM_BEST, len(ranked) - len(worst))]
    for title, part in (("Worst", worst), ("Best", best)):
        if not part:
            continue
        page.add_heading(f"{title} by {name}", 3)
        value_by_id = dict(part)
        for example in evaluation.examples(list(value_by_id)):
            draw_example(page, example, f"{name} {value_by_id[example.image_id]:.4g}")


def _add_tables(page: HTMLPage, evaluation: EvaluationResult) -> None:
    ids = set(evaluation.metric.per_image().ids)
    tables = {title: rows for title, rows in evaluation.report.tables.items() if rows and not rows.keys() <= ids}
    if tables:
        page.add_heading("Tables")
    for title, rows in tables.items():
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = [[key, *(_round_count(row.get(column)) for column in columns)] for key, row in rows.items()]
        page.add_heading(title, 3)
        page.add_table(cells, ("", *columns))


def _add_plots(page: HTMLPage, folder: Path) -> None:
    files = [file for file in sorted(folder.glob("*.png")) if file.name != "images.png"]
    if files:
        page.add_heading("Plots")
        page.add_images(files, [file.stem.replace("_", " ") for file in files])


def _format_image_table(evaluation: EvaluationResult) -> str:
    """The metrics of each image as CSV."""
    images = evaluation.metric.per_image()
    columns = images.compute_each()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *columns])
    for row, image_id in enumerate(images.ids):
        values = [column[row] for column in columns.values()]
        writer.writerow([image_id, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
    return text.getvalue()


def _round_count(value: float | None) -> float | int | None:
    """Large whole numbers, such as counts of pixels, as integers."""
    return int(value) if value is not None and math.isfinite(value) and value >= 10 and value == int(value) else value
