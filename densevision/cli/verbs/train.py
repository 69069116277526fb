"""densevision TASK train"""

from __future__ import annotations

import click

from densevision.cli.options import config_table, data_option, quiet_flag, set_option
from densevision.tasks import load_config


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("train", help=f"Train {task}, or continue a run.", epilog=config_table(load_config(task)))
    @data_option
    @click.option("--config", metavar="FILE", help="YAML that tells the whole run; see configs/.")
    @set_option
    @click.option("--out", metavar="RUN", help=f"Run folder; runs/{task}/NUMBER when not given.")
    @click.option("--resume", metavar="RUN", help="Continue this run exactly where it was.")
    @quiet_flag
    def train(data, config, settings, out, resume, quiet):
        from densevision.cli.printing import remarks

        remarks(quiet)
        from densevision import api

        folder = api.train(task, data, config, settings, out, resume, quiet)
        from densevision.inference.processes import launched_rank

        if launched_rank() == 0:
            click.echo(_next_steps(task, folder))

    return train


def _next_steps(task: str, folder) -> str:
    weights = folder / "best.safetensors"
    return "\n".join(
        [
            f"trained: {folder}",
            f"  densevision {task} evaluate --weights {weights}",
            f"  densevision {task} predict IMAGE --weights {weights}",
            f"  densevision {task} export --weights {weights} --format onnx",
        ]
    )
