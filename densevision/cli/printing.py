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
EXAMPLES = 5
"""Names that are printed of what was left out; the JSON has them all."""


def print_report(report: Any, as_json: bool) -> None:
    """Prints a report: one JSON object, or tables for people; the protocol is always with the numbers."""
    if as_json:
        click.echo(report.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    from densevision.metrics.glossary import meaning

    console = Console()
    headline = Table(title=f"{report.task}", title_justify="left")
    headline.add_column("")
    headline.add_column("value", justify="right")
    headline.add_column("what it is", overflow="fold")
    for name, value in report.metrics.items():
        headline.add_row(name, _number(value), meaning(name).text)
    console.print(headline)
    for title, rows in report.tables.items():
        if rows:
            console.print(_table(title, rows))
    for name, value in report.counts.items():
        if value != []:
            console.print(f"{name}: {value}{_examples(report.named.get(name, []))}", highlight=False, markup=False)
    console.print("protocol: " + json.dumps(report.protocol, ensure_ascii=False), highlight=False, style="dim")


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
        for name in ("severity", "name", "count", "examples", "mend"):
            table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
        for found in report.findings:
            examples = [*map(str, found.places[:3]), *(["..."] if found.count > 3 else [])]
            texts = (found.severity, found.check.name, str(found.count), "\n".join(examples), found.check.mend)
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


def _table(title: str, rows: dict[str, dict[str, float]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
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
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
