"""densevision TASK analyze"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from densevision.cli.evaluation_source import evaluate_source, evaluation_source_options
from densevision.cli.options import describe_invocation, folder_or_none, json_flag

if TYPE_CHECKING:
    from densevision.metrics.tide import TideConvention

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
    def analyze(
        source: str, out: str | None, as_json: bool, quiet: bool, tide: TideConvention = "coco", **options: Any
    ) -> None:
        from densevision.cli.printing import configure_logging, print_errors
        from densevision.evaluation.error_analysis import analyze as analyze_errors
        from densevision.inference.progress import hide_progress, show_progress

        is_quiet = configure_logging(quiet or as_json)
        analysis = analyze_errors(
            evaluate_source(task, source, is_quiet, **options),
            tide=tide,
            out=folder_or_none(out),
            command=describe_invocation(),
            progress=hide_progress if is_quiet else show_progress,
        )
        print_errors(analysis, as_json)

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
