"""densevision TASK robustness"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.options import (
    data_option,
    describe_invocation,
    json_flag,
    quiet_flag,
    set_option,
    weights_option,
)

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""
    from densevision.datasets.corruptions import CORRUPTIONS

    @click.command(
        "robustness", help="Evaluate weights on images that are rotated, blurred, noisy, compressed or dark."
    )
    @weights_option
    @data_option
    @set_option
    @click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
    @click.option(
        "--only", type=click.Choice(list(CORRUPTIONS)), multiple=True, help="A corruption to measure; repeatable."
    )
    @click.option("--limit", type=click.IntRange(1), help="Use this many first images.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of noise and blur.")
    @click.option("--out", metavar="FOLDER", help="Write a page and robustness.json there.")
    @json_flag
    @quiet_flag
    def robustness(only: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision import analysis
        from densevision.cli.printing import configure_logging, print_robustness

        is_quiet = configure_logging(quiet or as_json)
        result = analysis.measure_robustness(
            task, corruptions=only or None, quiet=is_quiet, command=describe_invocation(), **options
        )
        print_robustness(result, as_json)

    return robustness
