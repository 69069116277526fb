"""densevision TASK score"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.options import json_flag, report_option, set_option

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("score", help=f"Score {task} predictions of any tool against ground-truth files; needs no model.")
    @click.option("--truth", metavar="PATH", required=True, help="Ground truth.")
    @click.option("--predictions", metavar="PATH", required=True, help="Predictions.")
    @click.option(
        "--on-error",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="Stop at files that cannot be read or compared, or skip and report them.",
    )
    @set_option
    @report_option
    @click.option("--images", metavar="FOLDER", help="With --report: the images, to draw on.")
    @json_flag
    def score(truth: str, predictions: str, as_json: bool, **options: Any) -> None:
        from densevision.cli.printing import print_report, warn_about_skipped
        from densevision.evaluation.score import score as score_files

        report = score_files(task, truth, predictions, **options)
        warn_about_skipped(report)
        print_report(report, as_json)

    return score
