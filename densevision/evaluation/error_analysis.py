"""Which kinds of errors occur and what they cost, as tables, plots and the worst images drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densevision.draw.html_page import HTMLPage
from densevision.draw.plots import plot_bars
from densevision.errors import DataError
from densevision.evaluation.analysis_page import AnalysisPage
from densevision.evaluation.provenance import add_provenance
from densevision.evaluation.report_page import draw_example
from densevision.evaluation.result import EvaluationResult, draw_side_by_side, iterate_examples
from densevision.inference.progress import Progress, hide_progress
from densevision.io.json_writer import to_json_value
from densevision.metrics.coco_protocol import MAX_DETECTIONS
from densevision.metrics.metric import Tables
from densevision.metrics.stratified_errors import StratifiedErrors
from densevision.metrics.tide import TideConvention, TideErrors
from densevision.results import Detections, Instances, Result
from densevision.run_folder import collect_versions

__all__ = ["ErrorAccumulator", "ErrorAnalysis", "analyze"]

NUM_DRAWN = 12
"""Worst images that are drawn."""
MAX_METRICS = 12
"""Headline metrics at the top of the page."""


class ErrorAccumulator(Protocol):
    """Errors of one result type over images that arrive one at a time."""

    def update(self, prediction: Any, truth: Any, image: np.ndarray | None, image_id: str, /) -> None:
        """Adds one image."""

    def tables(self) -> Tables:
        """Title -> kind or stratum -> column -> number."""

    def draw(self, prediction: Any, truth: Any, canvas: np.ndarray, /) -> tuple[np.ndarray, str]:
        """The errors of one image drawn, and a caption."""


@dataclass(frozen=True)
class ErrorAnalysis(AnalysisPage):
    """The errors of an evaluation.

    Attributes:
        evaluation: The evaluation.
        errors: Accumulated errors; one for each geometry of the objects.
    """

    file_name = "errors.json"

    evaluation: EvaluationResult
    errors: list[ErrorAccumulator]

    def tables(self) -> Tables:
        """All tables."""
        return {title: rows for part in self.errors for title, rows in part.tables().items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""
        name, ranked = self.evaluation.rank_images()
        report = self.evaluation.report
        return to_json_value(
            {
                "task": report.task,
                "source": self.evaluation.origin,
                "metrics": report.metrics,
                "protocol": report.protocol,
                "counts": report.counts,
                "versions": collect_versions(),
                "errors": self.tables(),
                "by": name,
                "worst": dict(ranked),
            }
        )

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"{self.evaluation.report.task}: errors"

    def fill_page(self, page: HTMLPage, out: Path) -> None:
        """Metrics, tables of errors, and the worst images."""
        report = self.evaluation.report
        page.add_text(self.evaluation.origin)
        page.add_numbers(dict(list(report.metrics.items())[:MAX_METRICS]))
        for index, (title, rows) in enumerate(self.tables().items()):
            _add_table(page, title, rows, out / f"plots/{index}.png")
        name, ranked = self.evaluation.rank_images()
        page.add_heading(f"Worst images by {name}")
        value_by_id = dict(ranked)
        for example in self.evaluation.examples(list(value_by_id)[:NUM_DRAWN]):
            panels, captions = draw_side_by_side(example)
            if isinstance(example.truth, Detections):
                for part in self.errors:
                    panel, caption = part.draw(example.prediction, example.truth, example.canvas())
                    panels.append(panel)
                    captions.append(caption)
            draw_example(page, example, f"{name} {value_by_id[example.image_id]:.4g}", (panels, captions), width=2000)
        add_provenance(page, report, self.evaluation.card)


def analyze(
    evaluation: EvaluationResult,
    *,
    tide: TideConvention = "coco",
    out: Path | None = None,
    command: str = "",
    progress: Progress = hide_progress,
) -> ErrorAnalysis:
    """Sorts the errors of an evaluation by kind or stratum; reads every image once more.

    Args:
        evaluation: The evaluation.
        tide: Convention for the costs of errors of objects; see `metrics.tide.TideErrors`.
        out: Folder for a page and errors.json.
        command: The command that reproduces the page.
        progress: Draws a bar over the images.

    Raises:
        DataError: The evaluation has no images.
    """
    errors: list[ErrorAccumulator] = []
    limit = getattr(evaluation.metric, "max_detections", MAX_DETECTIONS)
    for example in iterate_examples(evaluation, progress):
        errors = errors or create_accumulators(example.truth, tide, limit)
        for part in errors:
            part.update(example.prediction, example.truth, example.image, example.image_id)
    if not errors:
        raise DataError("no image was evaluated", value=evaluation.origin)
    analysis = ErrorAnalysis(evaluation, errors)
    if out is not None:
        analysis.write(out, command)
    return analysis


def create_accumulators(
    truth: Result, tide: TideConvention = "coco", max_detections: int = MAX_DETECTIONS
) -> list[ErrorAccumulator]:
    """Empty accumulators for the errors of a result type; see `analyze` and `metrics.tide.TideErrors`."""
    if isinstance(truth, Instances) and truth.masks is not None:
        return [TideErrors(truth.names, iou_type, tide, max_detections) for iou_type in ("bbox", "segm")]
    if isinstance(truth, Detections):
        return [TideErrors(truth.names, "bbox", tide, max_detections)]
    return [StratifiedErrors()]


def _add_table(page: HTMLPage, title: str, rows: Mapping[str, Mapping[str, float]], plot: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    page.add_heading(title)
    page.add_table([[name, *(row.get(column) for column in columns)] for name, row in rows.items()], ("", *columns))
    column = next((column for column in columns if "cost" in column), columns[0])
    plot_bars(plot, {name.partition(":")[0]: row.get(column, math.nan) for name, row in rows.items()}, column)
    page.add_image(plot, column)
