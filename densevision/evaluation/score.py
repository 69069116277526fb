"""Prediction files against truth files, without a model and without torch: numbers, and on request a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.errors import UsageError
from densevision.evaluation.report import Report
from densevision.metrics.scoring import OnError
from densevision.tasks import load_score, scoring_options

PathLike = str | os.PathLike[str]


def score(
    task: str,
    truth: PathLike,
    predictions: PathLike,
    on_error: OnError = "fail",
    report: PathLike | None = None,
    images: PathLike | None = None,
    set: Mapping[str, Any] | None = None,
) -> Report:
    """Judges files; see `densevision.api.score`.

    Raises:
        DataError: Something cannot be read or compared.
        UsageError: `images` without `report`, skipping where nothing can be skipped, or an option without effect.
    """
    if report is None:
        if images is not None:
            raise UsageError("has no effect without report", field="images", value=str(images))
        options = scoring_options(task, set)
        return Report(task=task, **load_score(task)(Path(truth), Path(predictions), on_error, **options))
    from densevision.evaluation.report_page import command_line, write_report
    from densevision.evaluation.result import score_files_detailed

    image_folder = None if images is None else Path(images)
    found = score_files_detailed(task, Path(truth), Path(predictions), on_error, image_folder, set)
    settings = [f"{name}={value}" for name, value in (set or {}).items()]
    told = {"truth": truth, "predictions": predictions, "set": settings, "images": images, "report": report}
    told |= {"on_error": on_error} if on_error != "fail" else {}
    write_report(found, Path(report), command_line(task, "score", told))
    return found.report
