"""densevision TASK tune"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.options import data_option, parse_settings, quiet_flag, set_option
from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command(
        "tune",
        help=f"Search for the best options of {task} training with Optuna: trials, each a run of its own, weak ones "
        "stopped early. What is searched is the section `tune` of the config, and --search; by default learning rate, "
        "weight decay and warm-up.",
    )
    @data_option
    @click.option("--config", metavar="FILE|NAME", help="YAML file of the whole run, with an optional section `tune`.")
    @set_option
    @click.option(
        "--search",
        metavar="NAME=RANGE",
        multiple=True,
        callback=parse_settings,
        help="Search an option: 'train.lr={low: 1e-4, high: 1e-2, log: true}' or 'train.optimizer=[adamw, sgd]'; "
        "repeatable.",
    )
    @click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Trials in total.")
    @click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the search.  [default: 0]")
    @click.option(
        "--prune/--no-prune", default=None, help="Stop trials below the median of the others.  [default: prune]"
    )
    @click.option("--out", metavar="FOLDER", help=f"Folder of the study; runs/{task}/tune-NUMBER by default.")
    @click.option("--resume", metavar="FOLDER", help="Continue this study; --trials may be raised.")
    @quiet_flag
    def tune(data: str | None, quiet: bool, **options: Any) -> None:
        from densevision import api
        from densevision.cli.printing import configure_logging

        configure_logging(quiet)
        result = api.tune(task, data, quiet=quiet, **options)
        best = ", ".join(f"{name}={value}" for name, value in result.settings.items())
        lines = [
            f"best of {len(result.trials)} trials: {result.metric} {result.value:.4g} with {best}",
            f"  densevision {task} train --config {result.config}",
            f"  densevision {task} predict IMAGE --weights {result.run / 'best.safetensors'}",
        ]
        click.echo(escape_control("\n".join(lines)))

    return tune
