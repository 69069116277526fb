"""densevision TASK train"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from densevision.cli.options import data_option, describe_config, quiet_flag, set_option
from densevision.escaping import escape_control
from densevision.tasks import load_config

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("train", help=f"Train a {task} model, or resume a run.", epilog=describe_config(load_config(task)))
    @data_option
    @click.option(
        "--config", metavar="FILE|NAME", help=f"YAML file of the whole run, or the name of one, e.g. {task}/scenes."
    )
    @set_option
    @click.option("--out", metavar="RUN", help=f"Run folder; runs/{task}/NUMBER by default.")
    @click.option("--resume", metavar="RUN", help="Continue this run exactly where it was.")
    @quiet_flag
    def train(data: str | None, quiet: bool, **options: Any) -> None:
        from densevision import api
        from densevision.cli.printing import configure_logging

        configure_logging(quiet)
        folder = api.train(task, data, quiet=quiet, **options)
        from densevision.inference.processes import get_launch_rank

        if get_launch_rank() == 0:
            click.echo(escape_control(_describe_next_steps(task, folder)))

    return train


def _describe_next_steps(task: str, folder: Path) -> str:
    weights = folder / "best.safetensors"
    return "\n".join(
        [
            f"trained: {folder}",
            f"  densevision {task} evaluate --weights {weights}",
            f"  densevision {task} predict IMAGE --weights {weights}",
            f"  densevision {task} export --weights {weights} --format onnx",
        ]
    )
