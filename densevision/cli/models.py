"""densevision models"""

from __future__ import annotations

import inspect
import json
from fnmatch import fnmatch
from typing import Any

import click

from densevision.cli.options import json_flag
from densevision.tasks import TASKS


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "models",
        help="List architectures and weights: names, sizes, licenses, published metrics. PATTERN selects names by "
        "wildcards; the full name of an architecture explains its options.",
    )
    @click.argument("pattern", default="*")
    @click.option("--task", type=click.Choice(list(TASKS)), help="Only models of this task.")
    @click.option("--backbones", is_flag=True, help="List the timm models that work as backbones instead.")
    @json_flag
    def models(pattern: str, task: str | None, backbones: bool, as_json: bool) -> None:
        from densevision.models import find_architectures

        if backbones:
            from densevision.nn.backbone import list_pyramid_models

            names = [name for name in list_pyramid_models() if fnmatch(name, pattern)]
            click.echo(json.dumps(names) if as_json else "\n".join(names))
            return
        architectures = find_architectures(task)
        if pattern in architectures and not as_json:
            _explain(pattern)
            return
        tables = _collect(pattern, task)
        if as_json:
            click.echo(json.dumps(tables, ensure_ascii=False))
            return
        _print_tables(tables)

    return models


def _collect(pattern: str, task: str | None) -> dict[str, list[dict[str, Any]]]:
    from densevision.io.weights import load_card
    from densevision.models import find_architectures
    from densevision.published_weights import find_bundled_weights, list_published_weights

    tables: dict[str, list[dict[str, Any]]] = {"architectures": [], "bundled": [], "published": []}
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
        for name, weights in list_published_weights(each).items():
            if fnmatch(name, pattern):
                row = {"name": name, "task": each, "mb": weights.megabytes, "license": weights.license}
                tables["published"].append({**row, "trained_on": weights.trained_on, "address": weights.address})
    return tables


def _print_tables(tables: dict[str, list[dict[str, Any]]]) -> None:
    from rich.table import Table

    from densevision.cli.printing import open_console

    console = open_console()
    columns = {
        "architectures": ("name", "task", "summary"),
        "bundled": ("task", "mb", "trained_on", "license"),
        "published": ("name", "task", "mb", "license", "trained_on"),
    }
    titles = {
        "architectures": "Architectures: --set arch=NAME, densevision.create_model(NAME)",
        "bundled": "Bundled demo weights, used when no weights are named: synthetic scenes, not photographs",
        "published": "Published weights: --weights NAME downloads them on first use",
    }
    for kind, rows in tables.items():
        if not rows:
            continue
        table = Table(title=titles[kind], title_justify="left")
        for column in columns[kind]:
            header = "MB" if column == "mb" else column.replace("_", " ")
            table.add_column(header, no_wrap=column in ("name", "task"), overflow="fold")
        for row in rows:
            table.add_row(*(_format(row[column]) for column in columns[kind]))
        console.print(table)
    console.print("Options of an architecture: densevision models NAME. Backbones: densevision models --backbones")


def _format(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) and value >= 10 else str(value)


def _explain(name: str) -> None:
    """Prints what an architecture is and which arguments its constructor takes."""
    from densevision.models import find_architectures

    architecture = find_architectures()[name]
    model_class = architecture.load_class()
    click.echo(
        f"{name}: {architecture.summary}\n\n{inspect.getdoc(model_class) or ''}\n\nArguments (--set model.NAME=VALUE):"
    )
    for parameter in architecture.parameters().values():
        default = architecture.arguments.get(parameter.name, parameter.default)
        shown = "" if default is inspect.Parameter.empty else f" = {default!r}"
        click.echo(f"  {parameter.name}: {parameter.annotation}{shown}")
