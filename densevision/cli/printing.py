"""Reports, comparisons and findings as tables in a terminal, or as JSON."""

from __future__ import annotations

import json
import logging
import math
import sys
from itertools import accumulate
from typing import Any

import click

from densevision.escaping import escape_control, escape_json

__all__ = [
    "build_table",
    "configure_logging",
    "open_console",
    "print_comparison",
    "print_errors",
    "print_findings",
    "print_report",
    "print_robustness",
    "warn_about_skipped",
]

SKIPPED = ("images without prediction", "predictions without truth", "broken files")
"""Counts of what is left out of a score; see `metrics.scoring`."""
MIN_COUNT = 2
"""Whole numbers from here on are counts, such as of pixels, and are printed without decimals."""
MAX_EXAMPLES = 5
"""Names that are printed; the JSON has them all."""
COLUMN_GAP = 3
"""Characters between two columns of a table."""
MAX_LOCATIONS = 3
"""Places of a finding that are printed."""
UNLIMITED_WIDTH = 100_000
"""Columns of a console that is not a terminal: no line is wrapped."""


def open_console(error: bool = False) -> Any:
    """A console that prints text literally: no markup, and control characters escaped.

    Where it is not a terminal, lines are never wrapped, so that other programs can read them.
    """
    from rich.console import Console
    from rich.text import Text

    class Terminal(Console):
        def render_str(self, text: str, **style: Any) -> Text:
            """Escapes every text: lines, cells and titles of tables."""
            return super().render_str(escape_control(text), **style)

    console = Terminal(stderr=error, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH
    return console


def build_table(console: Any, title: str | None = None, **options: Any) -> Any:
    """An empty table in the style of the console: aligned columns without lines where it is not a terminal.

    Args:
        console: Of `open_console`.
        title: Printed above the table.
        **options: Of `rich.table.Table`.
    """
    from rich import box
    from rich.table import Table

    style: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "title_justify": "left"}
    if not console.is_terminal:
        style |= {"box": None, "padding": (0, 2, 0, 0), "show_lines": False}
    return Table(title=title, **(options | style))


def print_report(report: Any, as_json: bool) -> None:
    """Prints a report as JSON or as tables; the protocol is always printed with the numbers."""
    if as_json:
        click.echo(escape_json(report.to_json()))
        return
    from densevision.tasks import get_metric_info

    console = open_console()
    headline = build_table(console, report.task)
    headline.add_column("")
    headline.add_column("value", justify="right")
    headline.add_column("meaning", overflow="fold")
    for name, value in report.metrics.items():
        headline.add_row(name, _format_number(value), get_metric_info(report.task, name).text)
    console.print(headline)
    for title, rows in report.tables.items():
        if rows:
            console.print(_build_number_table(console, title, rows))
    for name, value in report.counts.items():
        if value != []:
            console.print(f"{name}: {value}{_format_examples(report.named.get(name, []))}")
    _print_protocol(console, report)


def print_comparison(comparison: Any, as_json: bool) -> None:
    """Prints the differences between two evaluations as JSON or as a table."""
    if as_json:
        click.echo(escape_json(json.dumps(comparison.to_dict(), ensure_ascii=False)))
        return
    console = open_console()
    console.print(f"baseline: {comparison.baseline.origin}\ncandidate: {comparison.candidate.origin}")
    table = build_table(console, f"{comparison.baseline.report.task}: baseline to candidate")
    for name in ("", "baseline", "candidate", "change", "95 % from", "to", ""):
        table.add_column(name, justify="right" if name else "left")
    for name, d in comparison.differences.items():
        numbers = (d.baseline, d.candidate, d.change, *d.interval)
        table.add_row(name, *map(_format_number, numbers), comparison.verdict(name))
    console.print(table)
    for title, part in (("worse", comparison.worse(MAX_EXAMPLES)), ("better", comparison.better(MAX_EXAMPLES))):
        shown = ", ".join(f"{image_id} ({comparison.changes[image_id]:+.4g})" for image_id in part) or "none"
        console.print(f"{comparison.ranked_by} most {title}: {shown}")
    if comparison.unmatched:
        note = (
            f"not compared, on one side only: {len(comparison.unmatched)}{_format_examples(list(comparison.unmatched))}"
        )
        console.print(note)
    console.print(f"intervals: {comparison.draws} resamples of the images, seed {comparison.seed}")
    _print_counts_and_protocol(
        console, comparison.baseline.report, "" if comparison.has_same_setup else " of the baseline"
    )
    if not comparison.has_same_setup:
        _print_counts_and_protocol(console, comparison.candidate.report, " of the candidate")


def print_errors(analysis: Any, as_json: bool) -> None:
    """Prints an error analysis as JSON or as tables."""
    if as_json:
        click.echo(escape_json(json.dumps(analysis.to_dict(), ensure_ascii=False)))
        return

    console = open_console()
    for title, rows in analysis.tables().items():
        console.print(_build_number_table(console, title, rows))
    name, ranked = analysis.evaluation.rank_images()
    shown = ", ".join(f"{image_id} ({value:.4g})" for image_id, value in ranked[:MAX_EXAMPLES])
    console.print(f"worst by {name}: {shown}")
    _print_counts_and_protocol(console, analysis.evaluation.report)


def print_robustness(result: Any, as_json: bool) -> None:
    """Prints how a model degrades as JSON or as a table."""
    if as_json:
        click.echo(escape_json(json.dumps(result.to_dict(), ensure_ascii=False)))
        return
    from densevision.evaluation.robustness import DRAWS

    console = open_console()
    table = build_table(console, result.evaluation.origin)
    for name in ("", "strength", result.monitored, "95 % from", "to", "share kept"):
        table.add_column(name, justify="left" if name in ("", "strength") else "right")
    for name, strength, *numbers in result.rows():
        table.add_row(name, strength, *map(_format_number, numbers))
    console.print(table)
    if result.note():
        console.print(result.note())
    console.print(f"intervals: {DRAWS} resamples of the images; seed of noise and blur: {result.seed}")
    _print_counts_and_protocol(console, result.evaluation.report)


def print_findings(report: Any, as_json: bool) -> None:
    """Prints the findings of a dataset check as JSON or as lines."""
    if as_json:
        click.echo(escape_json(report.to_json()))
        return
    console = open_console()
    for split, counts in report.counts.items():
        summary = ", ".join(f"{count} {what}" for what, count in counts.items())
        console.print(f"{split}: {summary}")
    for note in report.notes:
        console.print(f"note: {note}")
    for finding in report.findings:
        style = "red" if finding.severity == "error" else None
        line = f"{finding.severity}: {finding.check.name} ({finding.count}): {finding.check.hint}"
        console.print(line, style=style, soft_wrap=True)
        for location in finding.locations[:MAX_LOCATIONS]:
            console.print(f"    {location}", soft_wrap=True)
        if finding.count > MAX_LOCATIONS:
            console.print(f"    ... and {finding.count - MAX_LOCATIONS} more")
    if not report.findings:
        console.print("no problems found")
    for change in report.changes if report.changes is not None else ():
        console.print(f"cleaned copy: {change}")
    if report.changes == []:
        console.print("cleaned copy: no changes")


class _StandardErrorHandler(logging.StreamHandler):
    """Writes to whatever the standard error is at the moment, which tests and notebooks replace."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message."""
        self.stream = sys.stderr
        super().emit(record)


def warn_about_skipped(report: Any) -> None:
    """Warns on the standard error about what a score leaves out."""
    for kind, names in report.named.items():
        if kind in SKIPPED:
            click.echo(escape_control(f"warning: not scored: {len(names)} {kind}{_format_examples(names)}"), err=True)


def configure_logging(quiet: bool) -> bool:
    """Sends the package's log messages to the standard error; only warnings when quiet. Returns `quiet`."""
    log = logging.getLogger("densevision")
    handler = _StandardErrorHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    return quiet


def _print_counts_and_protocol(console: Any, report: Any, owner: str = "") -> None:
    """Counts and protocol, one line each."""
    counts = ", ".join(f"{name} {value}" for name, value in report.counts.items() if value != [])
    console.print(f"counts{owner}: {counts}")
    _print_protocol(console, report, owner)


def _print_protocol(console: Any, report: Any, owner: str = "") -> None:
    text = f"protocol{owner}: {json.dumps(report.protocol, ensure_ascii=False)}"
    console.print(text, style="dim")


def _build_number_table(console: Any, title: str, rows: dict[str, dict[str, float]]) -> Any:
    """One row per name, one column per number."""
    hidden_rows = len(rows) - MAX_EXAMPLES if "image" in title else 0
    if hidden_rows > 0:
        rows, title = dict(list(rows.items())[:MAX_EXAMPLES]), f"{title}: {MAX_EXAMPLES} of {len(rows)}"
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = {name: [_format_number(row.get(column, math.nan)) for column in columns] for name, row in rows.items()}
    widths = [
        max([len(column), *(len(row[i]) for row in cells.values())]) + COLUMN_GAP for i, column in enumerate(columns)
    ]
    name_width = min(max(map(len, rows), default=0), console.width // 2 - COLUMN_GAP)  # longer names are folded
    shown = _count_fitting(widths, console.width - name_width - COLUMN_GAP)
    if shown < len(columns):
        title = f"{title} (hidden: {', '.join(columns[shown:])}; widen the terminal, or use --json)"
    table = build_table(console, title)
    table.add_column("", overflow="fold")
    for name in columns[:shown]:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in cells.items():
        table.add_row(name, *row[:shown])
    return table


def _count_fitting(widths: list[int], room: int) -> int:
    """How many of the first columns fit into so many characters; at least one."""
    used = list(accumulate(widths))
    return max(1, sum(width <= room for width in used))


def _format_examples(names: list[str]) -> str:
    """The first few names in parentheses."""
    names_shown = ", ".join(names[:MAX_EXAMPLES]) + (", ..." if len(names) > MAX_EXAMPLES else "")
    return f" ({names_shown})" if names else ""


def _format_number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return str(value)
    return f"{value:,.0f}" if value >= MIN_COUNT and value == int(value) else f"{value:.4f}"
