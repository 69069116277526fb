"""densevision TASK benchmark"""

from __future__ import annotations

import json
from typing import Any

import click

from densevision.cli.options import json_flag, predict_options, select_given, weights_option
from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("benchmark", help="Measure images per second and peak memory of prediction on images of noise.")
    @weights_option
    @click.option(
        "--count", type=click.IntRange(1), default=20, show_default=True, help="Timed images, after three to warm up."
    )
    @click.option("--size", type=click.IntRange(1), default=640, show_default=True, help="Side of the square images.")
    @json_flag
    @predict_options(task)
    def benchmark(weights: str | None, count: int, size: int, as_json: bool, **options: Any) -> None:
        from densevision import api
        from densevision.inference.benchmark import measure_speed

        figures = measure_speed(api.load(weights, task), count, size, **select_given(options))
        lines = "\n".join(f"{name}: {value}" for name, value in figures.items())
        click.echo(json.dumps(figures) if as_json else escape_control(lines))

    return benchmark
