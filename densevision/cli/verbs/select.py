"""densevision TASK select"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from densevision.cli.options import json_flag, predict_options, quiet_flag, select_given, unpack_sources, weights_option
from densevision.escaping import escape_control, escape_json

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command(
        "select",
        help="Select the images to label next: those where the predictions for mirrored, scaled or turned views differ "
        "most, and that differ from one another in the features of the encoder.",
    )
    @click.argument("source", nargs=-1, required=True)
    @weights_option
    @click.option("--count", type=click.IntRange(1), required=True, help="Number of images.")
    @click.option(
        "--pool",
        type=click.FloatRange(1),
        default=4.0,
        show_default=True,
        help="Candidates per selected image: 1 selects by disagreement alone, a large number by features alone.",
    )
    @click.option("--labeled", metavar="PATH", multiple=True, help="Images with labels, to differ from; repeatable.")
    @click.option("--encoder", metavar="NAME", help="A timm model for the features; that of the weights by default.")
    @click.option("--encoder-weights", metavar="FILE", help="Weights of --encoder.")
    @click.option("--out", metavar="FILE", help="A list as .csv or .json.")
    @json_flag
    @quiet_flag
    @predict_options(task)
    def select(
        source: tuple[str, ...],
        weights: str | None,
        labeled: tuple[str, ...],
        as_json: bool,
        quiet: bool,
        **options: Any,
    ) -> None:
        from densevision.cli.printing import configure_logging
        from densevision.selection import select as select_images

        configure_logging(quiet or as_json)
        rows = select_images(
            unpack_sources(source),
            task,
            weights,
            labeled=list(labeled) or None,
            **select_given(options),
        )
        if as_json:
            click.echo(escape_json(json.dumps([asdict(row) for row in rows], ensure_ascii=False)))
            return
        for row in rows:
            click.echo(escape_control(f"{row.disagreement:.4f}  {row.image}"))

    return select
