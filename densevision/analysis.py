"""`compare`, `analyze` and `measure_robustness`: what lies behind the numbers of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from densevision.errors import UsageError
from densevision.tasks import check_task_name

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from densevision.api import Overrides, PathLike, Split
    from densevision.evaluation.comparison import Comparison
    from densevision.evaluation.error_analysis import ErrorAnalysis
    from densevision.evaluation.result import EvaluationResult
    from densevision.evaluation.robustness import Robustness
    from densevision.metrics.scoring import OnError
    from densevision.metrics.tide import TideConvention

__all__ = ["Origin", "analyze", "compare", "measure_robustness"]


class Origin(TypedDict, total=False):
    """What is evaluated on what: weights on a dataset, or prediction files against ground-truth files.

    Attributes:
        data: A dataset on which weights are evaluated.
        truth: Ground-truth files against which prediction files are scored; as `densevision.score` takes them.
        split: With `data`: "train" or, by default, "val".
        overrides: Dotted names of config options to values.
        images: With `truth`: folder of the images to draw on.
        on_error: With `truth`: "fail" (the default) or "skip", as `densevision.score` takes it.
    """

    data: PathLike | None
    truth: PathLike | None
    split: Split | None
    overrides: Overrides
    images: PathLike | None
    on_error: OnError | None


def compare(
    task: str,
    baseline: Any,
    candidate: Any,
    *,
    draws: int = 1000,
    seed: int = 0,
    out: PathLike | None = None,
    quiet: bool = False,
    command: str = "",
    **origin: Unpack[Origin],
) -> Comparison:
    """Compares two weights on a dataset, or two sets of prediction files with their ground truth.

    Args:
        task: A name in `TASKS`.
        baseline: Weights with `data`, prediction files with `truth`. Changes are relative to it.
        candidate: As `baseline`.
        draws: Resamples of the images for the paired bootstrap intervals.
        seed: Seed of the resampling.
        out: Folder for a page and compare.json.
        quiet: Suppress progress bars.
        command: The command that reproduces the page.
        **origin: `data` or `truth`, and what belongs to it; see `Origin`.

    Raises:
        UsageError: Neither `data` nor `truth` is given or both are, or an option belongs to the other one.
        DataError: The two are of different images.
    """
    from densevision.evaluation.comparison import compare as compare_evaluations

    first, second = (_evaluate(task, side, quiet, **origin) for side in (baseline, candidate))
    on_error = origin.get("on_error") or "fail"
    return compare_evaluations(
        first, second, draws=draws, seed=seed, on_error=on_error, out=_to_path(out), command=command
    )


def analyze(
    task: str,
    source: Any,
    *,
    tide: TideConvention = "coco",
    out: PathLike | None = None,
    quiet: bool = False,
    command: str = "",
    **origin: Unpack[Origin],
) -> ErrorAnalysis:
    """Sorts the errors of weights or prediction files by kind, and says what each kind costs.

    Boxes and masks: TIDE's error types with their costs. Dense maps: confusions, and errors by distance to boundaries,
    depth, speed, texture and occlusion.

    Args:
        task: A name in `TASKS`.
        source: Weights with `data`, prediction files with `truth`.
        tide: Costs by COCO's evaluation, or as the authors' toolbox tidecv computes them.
        out: Folder for a page with the worst images, and errors.json.
        quiet: Suppress progress bars.
        command: The command that reproduces the page.
        **origin: `data` or `truth`, and what belongs to it; see `Origin`.

    Raises:
        UsageError: Neither `data` nor `truth` is given or both are, or an option belongs to the other one.
        DataError: No image was evaluated.
    """
    from densevision.evaluation.error_analysis import analyze as analyze_errors
    from densevision.inference.progress import hide_progress, show_progress

    evaluation = _evaluate(task, source, quiet, **origin)
    progress = hide_progress if quiet else show_progress
    return analyze_errors(evaluation, tide=tide, out=_to_path(out), command=command, progress=progress)


def measure_robustness(
    task: str,
    data: PathLike | None = None,
    weights: Any = None,
    *,
    corruptions: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    split: Split = "val",
    overrides: Overrides = None,
    out: PathLike | None = None,
    quiet: bool = False,
    command: str = "",
) -> Robustness:
    """Evaluates weights on images that are rotated, scaled, blurred, noisy, compressed or dark.

    Args:
        task: A name in `TASKS`.
        data: A dataset; a predictor of a run that was just trained may leave it out.
        weights: A file, a name, or a predictor from `load`; the bundled demo weights by default.
        corruptions: Names in `datasets.corruptions.CORRUPTIONS`; all by default.
        limit: Number of first images to use.
        seed: Seed of noise and blur.
        split: "train" or "val".
        overrides: Dotted names of config options to values.
        out: Folder for a page and robustness.json.
        quiet: Suppress progress bars.
        command: The command that reproduces the page.

    Raises:
        UsageError: There is no such corruption, or no data.
    """
    from densevision.api import open_for_evaluation
    from densevision.evaluation.robustness import measure_robustness as measure
    from densevision.inference.progress import hide_progress, show_progress

    opened = open_for_evaluation(check_task_name(task), data, weights, overrides=overrides, split=split)
    predictor, samples, options = opened
    return measure(
        predictor,
        samples,
        corruptions=corruptions,
        limit=limit,
        seed=seed,
        options=options,
        out=_to_path(out),
        command=command,
        progress=hide_progress if quiet else show_progress,
    )


def _evaluate(
    task: str,
    source: Any,
    quiet: bool,
    data: PathLike | None = None,
    truth: PathLike | None = None,
    split: Split | None = None,
    overrides: Overrides = None,
    images: PathLike | None = None,
    on_error: OnError | None = None,
) -> EvaluationResult:
    if (truth is None) == (data is None):
        problem = "needs either truth (--truth), for prediction files, or data (--data), for weights"
        raise UsageError(problem, field="truth, data")
    unused: dict[str, Any] = {"split": split} if data is None else {"images": images, "on_error": on_error}
    for name, value in unused.items():
        if value is not None:
            problem = f"has no effect with {'truth' if data is None else 'data'}"
            raise UsageError(problem, field=name, value=value, hint="Leave it out.")
    if truth is not None:
        from densevision.evaluation.result import score_detailed

        files = os.fspath(source)
        return score_detailed(check_task_name(task), truth, files, on_error or "fail", _to_path(images), overrides)
    from densevision.api import evaluate_detailed

    return evaluate_detailed(
        check_task_name(task), data, source, overrides=overrides, split=split or "val", quiet=quiet
    )


def _to_path(folder: PathLike | None) -> Path | None:
    return None if folder is None else Path(folder)
