"""densevision TASK compare"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.evaluation_source import evaluate_source, evaluation_source_options
from densevision.cli.options import describe_invocation, folder_or_none, json_flag

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command(
        "compare",
        help="Compare BASELINE and CANDIDATE, two weights (with --data) or two sets of predictions (with --truth): "
        "the change of each metric with a paired bootstrap interval, and the images that changed most.",
    )
    @click.argument("baseline")
    @click.argument("candidate")
    @evaluation_source_options
    @click.option("--draws", type=click.IntRange(1), default=1000, show_default=True, help="Resamples of the images.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the resampling.")
    @click.option("--out", metavar="FOLDER", help="Write a page and compare.json there.")
    @json_flag
    def compare(
        baseline: str,
        candidate: str,
        draws: int,
        seed: int,
        out: str | None,
        as_json: bool,
        quiet: bool,
        **options: Any,
    ) -> None:
        from densevision.cli.printing import configure_logging, print_comparison
        from densevision.evaluation.comparison import compare as compare_evaluations

        is_quiet = configure_logging(quiet or as_json)
        sides = [evaluate_source(task, side, is_quiet, **options) for side in (baseline, candidate)]
        comparison = compare_evaluations(
            *sides,
            draws=draws,
            seed=seed,
            on_error=options["on_error"] or "fail",
            out=folder_or_none(out),
            command=describe_invocation(),
        )
        print_comparison(comparison, as_json)

    return compare
