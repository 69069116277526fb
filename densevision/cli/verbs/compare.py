"""densevision TASK compare"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.evaluation_source import evaluation_source_options
from densevision.cli.options import describe_invocation, json_flag

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
    def compare(baseline: str, candidate: str, as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision import analysis
        from densevision.cli.printing import configure_logging, print_comparison, warn_about_skipped

        is_quiet = configure_logging(quiet or as_json)
        comparison = analysis.compare(
            task, baseline, candidate, quiet=is_quiet, command=describe_invocation(), **options
        )
        for side in (comparison.baseline, comparison.candidate):
            warn_about_skipped(side.report)
        print_comparison(comparison, as_json)

    return compare
