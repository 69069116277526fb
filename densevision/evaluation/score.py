"""Scores prediction files against ground truth files, without a model and without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from densevision.errors import UsageError
from densevision.evaluation.report import Report
from densevision.metrics.scoring import OnError
from densevision.tasks import get_scoring_options, load_score

__all__ = ["score"]

PathLike = str | os.PathLike[str]


def score(
    task: str,
    truth: PathLike,
    predictions: PathLike,
    on_error: OnError = "fail",
    report: PathLike | None = None,
    images: PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Report:
    """Scores files and optionally writes a report page; see `densevision.api.score`.

    Raises:
        DataError: A file cannot be read or compared.
        UsageError: `images` without `report`, skipping where nothing can be skipped, or an option without effect.
    """
    if report is None and images is not None:
        raise UsageError("has no effect without report", field="images", value=str(images))
    with _open_predictions(Path(predictions)) as files:
        if report is None:
            options = get_scoring_options(task, overrides)
            return Report(task=task, **load_score(task)(Path(truth), files, on_error, **options))
        from densevision.evaluation.report_page import format_command, write_report
        from densevision.evaluation.result import score_detailed

        evaluation = score_detailed(task, truth, files, on_error, images, overrides)
        evaluation = replace(evaluation, origin=f"{predictions} against {truth}")
        settings = [f"{name}={value}" for name, value in (overrides or {}).items()]
        options = {"truth": truth, "predictions": predictions, "set": settings, "images": images, "report": report}
        options |= {"on_error": on_error} if on_error != "fail" else {}
        write_report(evaluation, Path(report), format_command(task, "score", options))
        return evaluation.report


def _open_predictions(predictions: Path) -> AbstractContextManager[Path]:
    """The predictions as files; only a folder may hold shards, whose reader imports the decoders of images."""
    if not predictions.is_dir():
        return nullcontext(predictions)
    from densevision.evaluation.shard_predictions import open_predictions

    return open_predictions(predictions)
