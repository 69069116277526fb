"""densevision TASK score"""

from __future__ import annotations

import click

from densevision.cli.options import json_flag, report_option, set_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("score", help=f"Judge {task} predictions of any tool against truth files; no model, no torch.")
    @click.option("--truth", metavar="PATH", required=True, help="What is true.")
    @click.option("--predictions", metavar="PATH", required=True, help="What was predicted.")
    @click.option(
        "--on-error",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="What to do about files that cannot be read or compared: stop, or count and name them.",
    )
    @set_option
    @report_option
    @click.option("--images", metavar="FOLDER", help="With --report: the images, to be drawn on.")
    @json_flag
    def score(truth, predictions, on_error, settings, report, images, as_json):
        from densevision.cli.printing import print_report, warn_of
        from densevision.evaluation.score import score as judge

        found = judge(task, truth, predictions, on_error, report, images, settings)
        warn_of(found)
        print_report(found, as_json)

    return score
