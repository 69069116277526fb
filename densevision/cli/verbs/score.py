"""densevision TASK score"""

from __future__ import annotations

from pathlib import Path

import click

from densevision.cli.options import json_flag


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("score", help=f"Judge {task} predictions of any tool against truth files; no model, no torch.")
    @click.option("--truth", metavar="PATH", required=True, help="What is true.")
    @click.option("--predictions", metavar="PATH", required=True, help="What was predicted.")
    @json_flag
    def score(truth, predictions, as_json):
        from densevision.cli.printing import print_report
        from densevision.engine.report import Report
        from densevision.tasks import load_score

        report = Report(task=task, **load_score(task)(Path(truth), Path(predictions)))
        print_report(report, as_json)

    return score
