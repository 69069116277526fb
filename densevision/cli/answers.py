"""Answers that are looked into: prediction files beside truth, or weights on a dataset; the options of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from densevision.cli.options import quiet_flag, set_option

if TYPE_CHECKING:
    from densevision.evaluation.result import EvaluationResult


def answers_options(function: Callable) -> Callable:
    """Adds the options that say what answers are judged on, with those of prediction files and those of weights."""
    for option in (
        quiet_flag,
        set_option,
        click.option("--split", type=click.Choice(["train", "val"]), help="With --data. [default: val]"),
        click.option("--data", help="A dataset: what is judged is weights."),
        click.option(
            "--on-error",
            type=click.Choice(["fail", "skip"]),
            help="With --truth: files that cannot be read or compared stop the run, or are counted and named. "
            "[default: fail]",
        ),
        click.option("--images", help="With --truth: folder of the images, to be drawn on."),
        click.option("--truth", help="What is true: what is judged is prediction files."),
    ):
        function = option(function)
    return function


def judged(
    task: str,
    source: str,
    quiet: bool,
    truth: str | None,
    data: str | None,
    images: str | None,
    on_error: str | None,
    split: str | None,
    settings: dict[str, Any],
) -> EvaluationResult:
    """Judges prediction files or weights, with the options of `answers_options`; warns of what is left out.

    Raises:
        click.UsageError: Neither truth nor data is given or both are, or an option is the other's.
    """
    if (truth is None) == (data is None):
        raise click.UsageError("Give either --truth (for prediction files) or --data (for weights).")
    foreign = {"--split": split} if data is None else {"--images": images, "--on-error": on_error}
    for name, value in foreign.items():
        if value is not None:
            raise click.UsageError(
                f"{name} has no effect with {'--truth' if data is None else '--data'}. Leave it out."
            )
    if truth is not None:
        from densevision.cli.printing import warn_of
        from densevision.evaluation.result import score_files_detailed

        image_folder = None if images is None else Path(images)
        found = score_files_detailed(task, Path(truth), Path(source), on_error or "fail", image_folder, settings)  # type: ignore[arg-type]
        warn_of(found.report)
        return found
    from densevision import api

    return api.judge(source, data, task, settings, split or "val", quiet)
