"""densevision TASK evaluate"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.bulk_options import take_ray_options, worker_options
from densevision.cli.options import (
    data_option,
    engine_option,
    json_flag,
    predict_options,
    quiet_flag,
    report_option,
    select_given,
    set_option,
    weights_option,
)

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("evaluate", help=f"Evaluate {task} weights on a dataset, with the preprocessing of predict.")
    @weights_option
    @engine_option
    @data_option
    @set_option
    @click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
    @click.option("--out", metavar="FOLDER", help="Write report.json and plots there.")
    @report_option
    @worker_options
    @json_flag
    @quiet_flag
    @predict_options(task)
    def evaluate(weights: str | None, data: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision import api
        from densevision.cli.printing import configure_logging, print_report
        from densevision.inference.processes import get_launch_rank

        is_first = get_launch_rank() == 0  # of the processes that torchrun started
        configure_logging(quiet or as_json or not is_first)
        ray_options = take_ray_options(options)
        named = {name: options.pop(name) for name in ("overrides", "split", "out", "report")}
        report = api.evaluate(
            task, data, weights, quiet=quiet or as_json, **named, **ray_options, **select_given(options)
        )
        if is_first:
            print_report(report, as_json)

    return evaluate
