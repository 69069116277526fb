"""Prediction files against truth files, without a model and without torch: numbers, and on request a page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.engine.report import Report
from densevision.errors import UsageError
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
    from densevision.engine.judgement import judge_files
    from densevision.engine.report_page import command_line, write_report

    pictures = None if images is None else Path(images)
    found = judge_files(task, Path(truth), Path(predictions), on_error, pictures, set)
    settings = [f"{name}={value}" for name, value in (set or {}).items()]
    told = {"truth": truth, "predictions": predictions, "set": settings, "images": images, "report": report}
    told |= {"on_error": on_error} if on_error != "fail" else {}
    write_report(found, Path(report), command_line(task, "score", told))
    return found.report
