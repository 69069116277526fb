"""densevision models"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import click

from densevision.cli.options import json_flag
from densevision.errors import UsageError
from densevision.tasks import TASKS

if TYPE_CHECKING:
    from densevision.io.weights import PublishedWeights

__all__ = ["command"]

WIDE = 140
"""Columns of a terminal from which on the tables of published weights say what was measured, and the training data."""
LINE_WIDTH = 100
"""Columns of the explanations of arguments."""
TITLES = {
    "architectures": "Architectures: --set arch=NAME, densevision.create_model(NAME)",
    "bundled": "Bundled demo weights, used where no weights are named",
    "published": "Published weights: --weights NAME downloads them on first use",
}
COLUMNS = {
    "architectures": {"name": "name", "task": "task", "summary": "summary"},
    "bundled": {"task": "task", "mb": "MB", "trained_on": "trained on", "license": "license"},
    "published": {
        "name": "name",
        "task": "task",
        "parameters": "M",
        "mb": "MB",
        "metric": "published metric",
        "measured": "measured here",
        "license": "license",
        "trained_on": "trained on",
    },
}
"""Key of a row -> header, for each table."""
NUMBERS = ("parameters", "mb", "value")
LEGEND = (
    "M: millions of parameters. *: measured here with the published file. NC: not for commercial use.\n"
    "License in full, training data and address of weights: densevision models NAME"
)

Row = dict[str, Any]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "models",
        help="List architectures and weights: names, sizes, licenses, published metrics. PATTERN selects names by "
        "wildcards, or is a task; the full name of an architecture or of weights explains it.",
    )
    @click.argument("pattern", default="*")
    @click.option("--task", type=click.Choice(list(TASKS)), help="Only models of this task.")
    @click.option("--backbones", is_flag=True, help="List the timm models that work as backbones instead.")
    @json_flag
    def models(pattern: str, task: str | None, backbones: bool, as_json: bool) -> None:
        from densevision.models import find_architectures
        from densevision.published_weights import list_weights

        if task is None and pattern in TASKS:
            task, pattern = pattern, "*"
        if backbones:
            _list_backbones(pattern, as_json)
        elif pattern in find_architectures(task) and not as_json:
            _explain_architecture(pattern)
        elif pattern in list_weights(task) and not as_json:
            _explain_weights(list_weights()[pattern])
        else:
            tables = _collect_tables(pattern, task)
            if not any(tables.values()):
                raise UsageError("no name matches", field="PATTERN", value=pattern, hint="Use wildcards: 'yolo*'.")
            if as_json:
                click.echo(json.dumps(tables, ensure_ascii=False))
            else:
                _print_tables(tables)

    return models


def _list_backbones(pattern: str, as_json: bool) -> None:
    from densevision.nn.backbone import list_pyramid_models

    names = [name for name in list_pyramid_models() if fnmatch(name, pattern)]
    click.echo(json.dumps(names) if as_json else "\n".join(names))


def _collect_tables(pattern: str, task: str | None) -> dict[str, list[Row]]:
    from densevision.io.weights import load_card
    from densevision.models import find_architectures
    from densevision.published_weights import find_bundled_weights, list_weights

    tables: dict[str, list[Row]] = {name: [] for name in TITLES}
    for each in TASKS if task is None else (task,):
        for name, architecture in find_architectures(each).items():
            if fnmatch(name, pattern):
                tables["architectures"].append({"name": name, "task": each, "summary": architecture.summary})
        path = find_bundled_weights(each)
        if path is not None and fnmatch(each, pattern):
            card = load_card(path)
            row = {"task": each, "mb": round(path.stat().st_size / 1e6, 1), "license": card.license}
            data = card.data.get("path") or card.data.get("source")
            tables["bundled"].append({**row, "trained_on": data, "metrics": card.metrics.get("metrics", {})})
        for name, weights in list_weights(each).items():
            if fnmatch(name, pattern) and weights.address:
                tables["published"].append(_describe_weights(weights))
    return tables


def _describe_weights(weights: PublishedWeights) -> Row:
    name, value = weights.metric or (None, None)
    return {
        "name": weights.name,
        "task": weights.task,
        "parameters": weights.parameters,
        "mb": weights.megabytes,
        "metric": name,
        "value": value,
        "measured": weights.measured,
        "license": weights.license,
        "short_license": weights.short_license,
        "trained_on": weights.trained_on,
        "address": weights.address,
        "sha256": weights.sha256,
    }


def _print_tables(tables: dict[str, list[Row]]) -> None:
    from densevision.cli.printing import build_table, open_console

    console = open_console()
    for kind, rows in tables.items():
        if not rows:
            continue
        console.print(TITLES[kind])
        if kind == "published" and console.is_terminal:
            _print_groups(console, rows)
            continue
        table = build_table(console)
        is_grouped = kind == "architectures" and console.is_terminal
        rows = _join_names(rows) if is_grouped else rows
        whole = ("task", "mb") if is_grouped else ("name", "task", "mb")
        for key, header in COLUMNS[kind].items():
            justify = "right" if key in NUMBERS else "left"
            table.add_column(header, justify=justify, no_wrap=key in whole, overflow="fold")
        for row in rows:
            table.add_row(*(_format_value(row, key) for key in COLUMNS[kind]))
        console.print(table)
        if not console.is_terminal:
            console.print()
    console.print("Options of an architecture: densevision models NAME. Backbones: densevision models --backbones")


def _join_names(rows: list[Row]) -> list[Row]:
    """One row for all sizes of an architecture, which share a summary."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["summary"]), []).append(row["name"])
    return [{"name": ", ".join(names), "task": task, "summary": text} for (task, text), names in groups.items()]


def _print_groups(console: Any, rows: list[Row]) -> None:
    """A table for all weights of a task that state the same metric, so that their values can be compared."""
    from rich.table import Table

    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["metric"]), []).append(row)
    columns = {"name": "name", "parameters": "M", "mb": "MB", "value": "", "short_license": "license"}
    if console.width >= WIDE:
        columns |= {"measured": "measured here", "trained_on": "trained on"}
    for (task, metric), group in groups.items():
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for key, header in columns.items():
            title = (metric or "").split(",")[0].split(" ")[-1] + " " if key == "value" else header
            is_text = key in ("measured", "trained_on")
            table.add_column(title, justify="right" if key in NUMBERS else "left", no_wrap=not is_text, overflow="fold")
        decimals = max((len(f"{row['value']:.3f}".rstrip("0").partition(".")[2]) for row in group if metric), default=0)
        for row in group:
            value = f"{row['value']:.{max(decimals, 1)}f}" if metric else "-"
            cells = row | {"value": value + ("*" if row["measured"] else " ")}
            table.add_row(*(_format_value(cells, key) for key in columns))
        console.print(f"\n{task}: {metric or 'no metric is published'}")
        console.print(table)
    console.print(f"\n{LEGEND}\n")


def _explain_weights(weights: PublishedWeights) -> None:
    """Prints everything that is known about published weights."""
    metric = "none" if weights.metric is None else f"{weights.metric[0]} {weights.metric[1]:g}"
    hash_text = weights.sha256 or "none is known: a download cannot be verified, and its card says so"
    lines = {
        "task": weights.task,
        "size": f"{weights.megabytes:g} MB, {weights.parameters:g} million parameters",
        "license": weights.license,
        "trained on": weights.trained_on,
        "published metric": metric,
        "measured here": weights.measured or "no",
        "address": weights.address or "none: its publisher offers no file for PyTorch",
        "SHA-256": hash_text,
        "use": f"densevision {weights.task} predict IMAGE --weights {weights.name}",
    }
    click.echo(f"{weights.name}\n")
    for title, text in lines.items():
        wrapper = textwrap.TextWrapper(LINE_WIDTH, f"  {title + ':':<18}", " " * 20)
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        click.echo(wrapper.fill(text))


def _format_value(row: Row, key: str) -> str:
    value = row.get(key)
    if key in ("mb", "parameters"):
        return f"{value:.0f}" if row[key] >= 100 or (key == "mb" and row[key] >= 10) else f"{value:.1f}"
    if key == "metric":
        return "-" if value is None else f"{value} {row['value']:g}"
    if key == "trained_on":
        return str(value).split(": ", 1)[0]  # the names of single files behind it are in the card
    return str(value) or "-"


def _explain_architecture(name: str) -> None:
    """Prints what an architecture is, and the arguments of its constructor."""
    from densevision.models import find_architectures

    architecture = find_architectures()[name]
    model_class = architecture.load_class()
    description = re.split(r"\n(?:Args|Attributes|Raises):\n", inspect.getdoc(model_class) or "")[0].strip()
    click.echo(
        f"{name}: {architecture.summary}\n\n{description}\n\nArguments of create_model (--set model.NAME=VALUE):"
    )
    defaults = {**_collect_defaults(model_class), **architecture.arguments}
    explanations = _collect_explanations(model_class)
    for argument, annotation in architecture.parameters().items():
        default = f" = {defaults[argument]!r}" if argument in defaults else ""
        click.echo(f"  {argument}: {_format_type(annotation)}{default}")
        text = explanations.get(argument, "")
        if text:
            click.echo(click.wrap_text(text, LINE_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))


def _collect_explanations(model_class: type) -> dict[str, str]:
    """What docstrings say about the constructor's arguments, including those of the base classes."""
    explanations: dict[str, str] = {}
    for cls in reversed(model_class.__mro__):
        section = re.search(r"^Args:\n((?: +.*\n?|\n(?= ))+)", inspect.cleandoc(cls.__doc__ or ""), re.MULTILINE)
        for entry in re.split(r"^    (?=\w)", section[1], flags=re.MULTILINE)[1:] if section else ():
            argument, _, text = entry.partition(": ")
            explanations[argument] = " ".join(text.split())
    return explanations


def _collect_defaults(model_class: type) -> dict[str, Any]:
    """Defaults of the constructor's arguments, including those of the base classes that it passes arguments on to."""
    defaults: dict[str, Any] = {}
    for cls in reversed(model_class.__mro__):
        if "__init__" in vars(cls):
            parameters = inspect.signature(vars(cls)["__init__"]).parameters
            defaults |= {name: each.default for name, each in parameters.items() if each.default is not each.empty}
    return defaults


def _format_type(annotation: Any) -> str:
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", str(annotation))
    )
