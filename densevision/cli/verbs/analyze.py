"""densevision TASK analyze"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from densevision.cli.evaluation_source import evaluation_source_options
from densevision.cli.options import describe_invocation, json_flag

__all__ = ["command"]

Function = TypeVar("Function", bound=Callable[..., Any])


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command(
        "analyze",
        help="Analyze the errors of SOURCE: weights (with --data) or prediction files (with --truth). Boxes and masks: "
        "TIDE's error types with their costs. Dense maps: confusions, and errors by distance to boundaries, depth, "
        "speed, texture and occlusion.",
    )
    @click.argument("source")
    @evaluation_source_options
    @_tide_option(task)
    @click.option("--out", metavar="FOLDER", help="Write a page with the worst images, and errors.json, there.")
    @json_flag
    def analyze(source: str, as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision import analysis
        from densevision.cli.printing import configure_logging, print_errors, warn_about_skipped

        is_quiet = configure_logging(quiet or as_json)
        result = analysis.analyze(task, source, quiet=is_quiet, command=describe_invocation(), **options)
        warn_about_skipped(result.evaluation.report)
        print_errors(result, as_json)

    return analyze


def _tide_option(task: str) -> Callable[[Function], Function]:
    """Adds --tide for tasks whose results are objects: those that limit the number of detections."""
    from densevision.tasks import load_config

    if "max_detections" not in load_config(task).predict_options:
        return lambda function: function
    return click.option(
        "--tide",
        type=click.Choice(["coco", "tidecv"]),
        default="coco",
        show_default=True,
        help="Costs of errors by COCO's evaluation, or as the authors' toolbox tidecv computes them.",
    )
