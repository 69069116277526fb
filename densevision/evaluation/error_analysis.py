"""What kinds of errors there are and what they cost, as tables, plots and the worst images drawn. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.html_page import Page
from densevision.draw.plots import bars
from densevision.errors import DataError
from densevision.evaluation.provenance import show_basis, show_origin
from densevision.evaluation.result import EvaluationResult, every, side_by_side
from densevision.inference.progress import Progress, silent
from densevision.io.atomic_write import write_text
from densevision.metrics.stratified_errors import PixelErrors
from densevision.metrics.tide import ObjectErrors
from densevision.results import Detections, Instances, Result
from densevision.run_folder import versions

SHOWN = 12
"""Worst images that are drawn."""
Tables = dict[str, dict[str, dict[str, float]]]


class Errors(Protocol):
    """Errors of one kind of record over images that come one at a time."""

    def update(self, answer: Any, truth: Any, image: np.ndarray | None, id: str) -> None:
        """Takes one image."""

    def tables(self) -> Tables:
        """Title -> kind or part -> column -> number."""

    def draw(self, answer: Any, truth: Any, canvas: np.ndarray) -> tuple[np.ndarray, str]:
        """The errors of one image drawn, and a caption."""


@dataclass(frozen=True)
class Diagnosis:
    """The errors of a evaluation.

    Attributes:
        evaluation: Whose errors they are.
        parts: What looked at them; one for each thing that objects have.
    """

    evaluation_result: EvaluationResult
    parts: list[Errors]

    @classmethod
    def of(cls, evaluation_result: EvaluationResult, progress: Progress = silent) -> Diagnosis:
        """Looks at every image once more.

        Args:
            evaluation: Whose errors they are.
            progress: Draws a bar over the images.

        Raises:
            DataError: Nothing was judged.
        """
        parts: list[Errors] = []
        for look in every(evaluation_result, progress):
            parts = parts or errors_of(look.truth)
            for part in parts:
                part.update(look.answer, look.truth, look.image, look.id)
        if not parts:
            raise DataError("no image was judged", value=evaluation_result.origin)
        return cls(evaluation_result, parts)

    def tables(self) -> Tables:
        """All tables."""
        return {title: rows for part in self.parts for title, rows in part.tables().items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not finite is null."""
        name, ranked = self.evaluation_result.ranked()
        tables = {
            title: {row: {key: value if math.isfinite(value) else None for key, value in columns.items()}
                    for row, columns in rows.items()}
            for title, rows in self.tables().items()
        }  # fmt: skip
        worst = {id: value if math.isfinite(value) else None for id, value in ranked}
        report = self.evaluation_result.report.to_dict()
        judged = {"task": report["task"], "source": self.evaluation_result.origin, "metrics": report["metrics"]}
        basis = {"protocol": report["protocol"], "counts": report["counts"], "versions": versions()}
        return {**judged, **basis, "errors": tables, "by": name, "worst": worst}

    def write(self, out: Path, command: str = "") -> Path:
        """Writes a page, errors.json and plots."""
        write_text(out / "errors.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        page = Page(f"{self.evaluation_result.report.task}: errors")
        page.text(self.evaluation_result.origin)
        page.numbers(dict(list(self.evaluation_result.report.metrics.items())[:12]))
        for number, (title, rows) in enumerate(self.tables().items()):
            self._table(page, title, rows, out / f"plots/{number}.png")
        name, ranked = self.evaluation_result.ranked()
        page.heading(f"Worst images by {name}")
        values = dict(ranked)
        for look in self.evaluation_result.examples([id for id, _ in ranked[:SHOWN]]):
            drawn, captions = side_by_side(look)
            if isinstance(look.truth, Detections):
                canvas = look.canvas()
                for part in self.parts:
                    image, caption = part.draw(look.answer, look.truth, canvas)
                    drawn.append(image)
                    captions.append(caption)
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(2000, 480 * len(drawn)))
            page.image(sheet, f"{look.id}: {name} {values[look.id]:.4g}")
        show_basis(page, self.evaluation_result.report, self.evaluation_result.card)
        show_origin(page, command)
        return page.write(out / "index.html")

    @staticmethod
    def _table(page: Page, title: str, rows: Mapping[str, Mapping[str, float]], plot: Path) -> None:
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        page.heading(title)
        cells = [[name, *(row.get(column) for column in columns)] for name, row in rows.items()]
        page.table(cells, ("", *columns))
        shown = next((column for column in columns if "cost" in column), columns[0])
        bars(plot, {name.partition(":")[0]: row.get(shown, math.nan) for name, row in rows.items()}, shown)
        page.image(plot, shown)


def errors_of(truth: Result) -> list[Errors]:
    """What looks at the errors of this kind of record."""
    if isinstance(truth, Instances) and truth.masks is not None:
        return [ObjectErrors(truth.names, "bbox"), ObjectErrors(truth.names, "segm")]
    if isinstance(truth, Detections):
        return [ObjectErrors(truth.names)]
    return [PixelErrors()]
