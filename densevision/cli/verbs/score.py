"""densevision TASK score"""

from __future__ import annotations

import click

from densevision.cli.options import json_flag


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
    @json_flag
    def score(truth, predictions, on_error, as_json):
        from pathlib import Path

        from densevision.cli.printing import print_report, warn_of
        from densevision.engine.report import Report
        from densevision.tasks import load_score

        report = Report(task=task, **load_score(task)(Path(truth), Path(predictions), on_error))
        warn_of(report)
        print_report(report, as_json)

    return score
