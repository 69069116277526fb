"""densevision TASK evaluate"""

from __future__ import annotations

import click

from densevision.cli.options import (
    data_option,
    given,
    json_flag,
    predict_options,
    quiet_flag,
    report_option,
    set_option,
    weights_option,
)


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("evaluate", help=f"Judge {task} weights on a dataset, by the path that predict runs.")
    @weights_option
    @data_option
    @set_option
    @click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
    @click.option("--out", metavar="FOLDER", help="Write report.json and plots there.")
    @report_option
    @json_flag
    @quiet_flag
    @predict_options
    def evaluate(weights, data, settings, split, out, report, as_json, quiet, **options):
        from densevision.cli.printing import print_report, remarks

        remarks(quiet or as_json)
        from densevision import api

        found = api.evaluate(weights, data, task, settings, split, out, quiet or as_json, report, **given(options))
        print_report(found, as_json)

    return evaluate
