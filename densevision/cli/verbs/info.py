"""densevision TASK info"""

from __future__ import annotations

import json

import click

from densevision.cli.options import json_flag, weights_option
from densevision.escaping import escape_control


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("info", help="Show what a weights file says about itself: task, config, training data, metrics.")
    @click.argument("file", required=False)
    @weights_option
    @json_flag
    def info(file: str | None, weights: str | None, as_json: bool) -> None:
        import yaml

        from densevision.api import read_card

        if file is not None and weights is not None:
            raise click.UsageError("Give FILE or --weights, not both.")
        values = read_card(file or weights, task).to_dict()
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        click.echo(json.dumps(values) if as_json else escape_control(text))

    return info
