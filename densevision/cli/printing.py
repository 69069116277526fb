"""How reports look in a terminal."""

from __future__ import annotations

import json
import logging
import math
import sys
from typing import Any

import click

LEFT_OUT = ("images without prediction", "predictions without truth", "broken files")
"""What is counted and named, and does not change the numbers; see `metrics.scoring`."""
WHOLE = 2
"""Whole numbers from here on are counts, such as of pixels, and need no decimals."""
EXAMPLES = 5
"""Names that are printed of what was left out; the JSON has them all."""


def print_report(report: Any, as_json: bool) -> None:
    """Prints a report: one JSON object, or tables for people; the protocol is always with the numbers."""
    if as_json:
        click.echo(report.to_json())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from densevision.metrics.metric_info import metric_info

    console = Console()
    headline = Table(title=f"{report.task}", title_justify="left")
    headline.add_column("")
    headline.add_column("value", justify="right")
    headline.add_column("what it is", overflow="fold")
    for name, value in report.metrics.items():
        headline.add_row(name, _number(value), escape(metric_info(name).text))
    console.print(headline)
    for title, rows in report.tables.items():
        if rows:
            console.print(_table(title, rows))
    for name, value in report.counts.items():
        if value != []:
            console.print(f"{name}: {value}{_examples(report.named.get(name, []))}", highlight=False, markup=False)
    _print_protocol(console, report)


def print_comparison(found: Any, as_json: bool) -> None:
    """Prints what changed between two judgements: one JSON object, or a table for people."""
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(f"one: {found.one.origin}\nother: {found.other.origin}", highlight=False, markup=False)
    table = Table(title=f"{found.one.report.task}: from one to the other", title_justify="left")
    for name in ("", "one", "other", "change", "95 % from", "to", ""):
        table.add_column(name, justify="right" if name else "left")
    for name, d in found.differences.items():
        numbers = (d.one, d.other, d.change, *d.interval)
        table.add_row(escape(name), *map(_number, numbers), found.verdict(name))
    console.print(table)
    for title, part in (("worse", found.worse(EXAMPLES)), ("better", found.better(EXAMPLES))):
        shown = ", ".join(f"{id} ({found.changes[id]:+.4g})" for id in part) or "none"
        console.print(f"{found.ranked} most {title}: {shown}", highlight=False, markup=False)
    if found.alone:
        told = f"not compared, judged on one side only: {len(found.alone)}{_examples(list(found.alone))}"
        console.print(told, highlight=False, markup=False)
    console.print(f"intervals: {found.draws} draws of the images, seed {found.seed}", highlight=False)
    _print_basis(console, found.one.report, "" if found.alike else " of one")
    if not found.alike:
        _print_basis(console, found.other.report, " of the other")


def print_errors(found: Any, as_json: bool) -> None:
    """Prints a diagnosis: one JSON object, or tables for people."""
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    from rich.console import Console

    console = Console()
    for title, rows in found.tables().items():
        console.print(_table(title, rows))
    name, ranked = found.evaluation_result.ranked()
    shown = ", ".join(f"{id} ({value:.4g})" for id, value in ranked[:EXAMPLES])
    console.print(f"worst by {name}: {shown}", highlight=False, markup=False)
    _print_basis(console, found.evaluation_result.report)


def print_robustness(found: Any, as_json: bool) -> None:
    """Prints how a model degrades: one JSON object, or a table for people."""
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from densevision.evaluation.robustness import DRAWS

    table = Table(title=escape(found.evaluation_result.origin), title_justify="left")
    for name in ("", "strength", found.monitored, "95 % from", "to", "part kept"):
        table.add_column(escape(name), justify="left" if name in ("", "strength") else "right")
    for name, strength, *numbers in found.rows():
        table.add_row(name, escape(strength), *map(_number, numbers))
    console = Console()
    console.print(table)
    if found.note():
        console.print(found.note(), highlight=False, markup=False)
    console.print(f"intervals: {DRAWS} draws of the images; seed of noise and blur: {found.seed}", highlight=False)
    _print_basis(console, found.evaluation_result.report)


def print_findings(report: Any, as_json: bool) -> None:
    """Prints what a check found: one JSON object, or a table for people."""
    if as_json:
        click.echo(report.to_json())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for split, counts in report.counts.items():
        looked_at = ", ".join(f"{count} {what}" for what, count in counts.items())
        console.print(f"{split}: {looked_at}", highlight=False, markup=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    if report.findings:
        table = Table(show_lines=True)
        for name in ("severity", "name", "count", "examples", "hint"):
            table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
        for found in report.findings:
            examples = [*map(str, found.places[:3]), *(["..."] if found.count > 3 else [])]
            texts = (found.severity, found.check.name, str(found.count), "\n".join(examples), found.check.hint)
            table.add_row(*map(escape, texts), style="red" if found.severity == "error" else None)
        console.print(table)
    else:
        console.print("nothing was found", highlight=False)
    for change in report.changes if report.changes is not None else ():
        console.print(f"cleaned copy: {change}", highlight=False, markup=False)
    if report.changes == []:
        console.print("cleaned copy: nothing had to change", highlight=False)


def warn_of(report: Any) -> None:
    """Says on the standard error what a score leaves out."""
    for kind, names in report.named.items():
        if kind in LEFT_OUT:
            click.echo(f"warning: not judged: {len(names)} {kind}{_examples(names)}", err=True)


def remarks(quiet: bool) -> None:
    """Sends the package's remarks to the standard error, or only its warnings when quiet."""
    log = logging.getLogger("densevision")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def _print_basis(console: Any, report: Any, whose: str = "") -> None:
    """Counts and protocol, a line each."""
    counts = ", ".join(f"{name} {value}" for name, value in report.counts.items() if value != [])
    console.print(f"counts{whose}: {counts}", highlight=False, markup=False)
    _print_protocol(console, report, whose)


def _print_protocol(console: Any, report: Any, whose: str = "") -> None:
    text = f"protocol{whose}: {json.dumps(report.protocol, ensure_ascii=False)}"
    console.print(text, highlight=False, markup=False, style="dim")


def _table(title: str, rows: dict[str, dict[str, float]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    hidden = len(rows) - EXAMPLES if "image" in title else 0
    if hidden > 0:
        rows, title = dict(list(rows.items())[:EXAMPLES]), f"{title}: {EXAMPLES} of {len(rows)}"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("")
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    for name in columns:
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(_number(row.get(column, math.nan)) for column in columns))
    return table


def _examples(names: list[str]) -> str:
    """The first few names in brackets."""
    some = ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
    return f" ({some})" if names else ""


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return str(value)
    return f"{value:,.0f}" if value >= WHOLE and value == int(value) else f"{value:.4f}"
