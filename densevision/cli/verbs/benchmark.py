"""densevision TASK benchmark"""

from __future__ import annotations

import json

import click

from densevision.cli.options import given, predict_options, weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("benchmark", help="Measure images per second and peak memory of prediction on images of noise.")
    @weights_option
    @click.option(
        "--count",
        type=click.IntRange(1),
        default=20,
        show_default=True,
        help="Images that are timed, after three to warm up.",
    )
    @click.option("--size", type=click.IntRange(1), default=640, show_default=True, help="Side of the square images.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @predict_options
    def benchmark(weights, count, size, as_json, **options):
        from densevision import api
        from densevision.inference.benchmark import measure

        figures = measure(api.load(weights, task), count, size, **given(options))
        click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))

    return benchmark
