"""What `analyze` and `compare` look into: prediction files beside ground truth, or weights on a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from densevision.cli.options import folder_or_none, quiet_flag, set_option

if TYPE_CHECKING:
    from densevision.evaluation.result import EvaluationResult

__all__ = ["evaluate_source", "evaluation_source_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


def evaluation_source_options(function: Function) -> Function:
    """Adds the options that say what is evaluated on what."""
    for option in (
        quiet_flag,
        set_option,
        click.option("--split", type=click.Choice(["train", "val"]), help="With --data. [default: val]"),
        click.option("--data", metavar="PATH", help="A dataset: evaluate weights on it."),
        click.option(
            "--on-error",
            type=click.Choice(["fail", "skip"]),
            help="With --truth: stop at files that cannot be read or compared, or skip and report them. "
            "[default: fail]",
        ),
        click.option("--images", metavar="FOLDER", help="With --truth: the images, to draw on."),
        click.option("--truth", metavar="PATH", help="Ground-truth files: score prediction files against them."),
    ):
        function = option(function)
    return function


def evaluate_source(
    task: str,
    source: str,
    quiet: bool,
    truth: str | None,
    data: str | None,
    images: str | None,
    on_error: Literal["fail", "skip"] | None,
    split: Literal["train", "val"] | None,
    overrides: dict[str, Any],
) -> EvaluationResult:
    """Scores prediction files or evaluates weights, with the options of `evaluation_source_options`.

    Raises:
        click.UsageError: Neither --truth nor --data is given or both are, or an option belongs to the other one.
    """
    if (truth is None) == (data is None):
        raise click.UsageError("Give either --truth (for prediction files) or --data (for weights).")
    unused = {"--split": split} if data is None else {"--images": images, "--on-error": on_error}
    for name, value in unused.items():
        if value is not None:
            other = "--truth" if data is None else "--data"
            raise click.UsageError(f"{name} has no effect with {other}. Leave it out.")
    if truth is not None:
        from densevision.cli.printing import warn_about_skipped
        from densevision.evaluation.result import score_detailed

        result = score_detailed(task, truth, source, on_error or "fail", folder_or_none(images), overrides)
        warn_about_skipped(result.report)
        return result
    from densevision.api import evaluate_detailed

    return evaluate_detailed(task, data, source, overrides=overrides, split=split or "val", quiet=quiet)
