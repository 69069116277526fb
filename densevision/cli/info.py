"""densevision info"""

from __future__ import annotations

import json
from typing import Any

import click

from densevision.cli.options import json_flag
from densevision.escaping import escape_control, escape_json

__all__ = ["command", "print_info"]

MAX_NAMES = 12
"""Classes that are listed; --json has them all."""


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "info",
        help="Show what FILE is: weights, an exported model, a checkpoint of another project, a run folder, or a name "
        "that `densevision models` lists.",
    )
    @click.argument("file")
    @json_flag
    def info(file: str, as_json: bool) -> None:
        print_info(file, None, as_json)

    return info


def print_info(file: str | None, task: str | None, as_json: bool) -> None:
    """Prints a description as JSON or as lines."""
    from densevision.file_info import info

    values = info(file, task)
    if as_json:
        click.echo(escape_json(json.dumps(values, ensure_ascii=False)))
        return
    for name, text in _DESCRIBE[values["kind"]](values):
        if text:
            click.echo(escape_control(f"{name + ':':<15} {text}"))


def _describe_card(values: dict[str, Any]) -> list[tuple[str, str]]:
    config, metrics = values["config"], values["metrics"].get("metrics", {})
    size = f"{values['parameters'] / 1e6:.2f} M parameters, " if "parameters" in values else ""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, (int, float)))
    return [
        (values["kind"], f"{values['task']}, {size}{values['megabytes']} MB"),
        ("architecture", str(config.get("arch", ""))),
        ("backbone", str(config.get("backbone", {}).get("name", ""))),
        ("classes", _list_names(values["classes"] or ())),
        ("image size", str(config.get("data", {}).get("size") or "")),
        ("trained on", ", ".join(f"{name} {value}" for name, value in values["data"].items() if value is not None)),
        ("metrics", numbers),
        ("license", values["license"]),
        ("source", values["source"] or ""),
        ("written by", f"densevision {values['versions'].get('densevision', 'unknown')}"),
        ("more", "--json shows the whole card, with config and protocol"),
    ]


def _describe_run(values: dict[str, Any]) -> list[tuple[str, str]]:
    best = values["best"]
    return [
        ("run", f"{values['task']}, {values['arch']}"),
        ("data", str(values["data"])),
        ("epochs", f"{values['finished_epochs']} of {values['epochs']}"),
        ("best", "" if best is None else f"{best['metric']} {best['value']:.4g} in epoch {best['epoch']}"),
        ("weights", values["weights"] or "none yet"),
    ]


def _describe_checkpoint(values: dict[str, Any]) -> list[tuple[str, str]]:
    names = values["published"]
    known = f"published as {' and '.join(names)}" if names else "not one of the published weights that are known"
    use = f"densevision convert-weights {names[0] if names else 'NAME'} FILE OUT"
    return [("checkpoint", f"of another project, {values['megabytes']} MB, {known}"), ("to use it", use)]


def _list_names(names: Any) -> str:
    rest = f", ... ({len(names)} in all)" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + rest


_DESCRIBE = {
    "weights": _describe_card,
    "export": _describe_card,
    "run": _describe_run,
    "checkpoint": _describe_checkpoint,
}
