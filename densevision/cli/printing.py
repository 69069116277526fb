"""How reports look in a terminal."""

from __future__ import annotations

import json
import logging
import math
import sys
from typing import Any

import click


def print_report(report: Any, as_json: bool) -> None:
    """Prints a report: one JSON object, or tables for people; the protocol is always with the numbers."""
    if as_json:
        click.echo(report.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    headline = Table(title=f"{report.task}", title_justify="left")
    for name in report.metrics:
        headline.add_column(name, justify="right")
    headline.add_row(*(_number(value) for value in report.metrics.values()))
    console.print(headline)
    for title, rows in report.tables.items():
        if rows:
            console.print(_table(title, rows))
    for name, value in report.counts.items():
        if value != []:
            console.print(f"{name}: {value}", highlight=False)
    console.print("protocol: " + json.dumps(report.protocol, ensure_ascii=False), highlight=False, style="dim")


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


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
