"""densevision TASK info"""

from __future__ import annotations

import click

from densevision.cli.options import json_flag, weights_option

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("info", help=f"Show what {task} weights, an exported model or a run folder are.")
    @click.argument("file", required=False)
    @weights_option
    @json_flag
    def info(file: str | None, weights: str | None, as_json: bool) -> None:
        from densevision.cli.info import print_info

        if file is not None and weights is not None:
            raise click.UsageError("Give FILE or --weights, not both.")
        print_info(file or weights, task, as_json)

    return info
