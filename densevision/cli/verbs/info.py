"""densevision TASK info"""

from __future__ import annotations

import json

import click

from densevision.cli.options import weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("info", help="Tell what a weights file is, from its card.")
    @weights_option
    @click.option("--json", "as_json", is_flag=True, help="Print the card as one JSON object.")
    def info(weights, as_json):
        import yaml

        from densevision.errors import WeightsError
        from densevision.io.weights import load_card
        from densevision.published_weights import opener, resolve

        path = resolve(weights, task)
        if opener(path, task) is None:
            card = load_card(path)
        else:
            from densevision import api

            card = api.load(path, task).card
        if card.task != task:
            raise WeightsError(f"these weights are for {card.task}, not for {task}", file=path, field="task")
        values = card.to_dict()
        click.echo(json.dumps(values) if as_json else yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    return info
