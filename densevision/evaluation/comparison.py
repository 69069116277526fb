"""Comparison of two evaluations of the same images: what changed, how significantly, and in which images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.draw.html_page import HTMLPage
from densevision.draw.plots import plot_histogram
from densevision.errors import UsageError
from densevision.evaluation.analysis_page import AnalysisPage
from densevision.evaluation.provenance import add_provenance
from densevision.evaluation.report_page import draw_example
from densevision.evaluation.result import EvaluationResult, draw_side_by_side
from densevision.io.json_writer import to_json_value
from densevision.metrics.bootstrap import DRAWS, LEVEL, Difference, ImageSubset, compare_paired
from densevision.metrics.per_image import PerImageStats
from densevision.metrics.scoring import OnError
from densevision.run_folder import collect_versions
from densevision.tasks import get_metric_info

__all__ = ["Comparison", "compare"]

NUM_DRAWN = 6
"""Images drawn of those that got worse, and of those that got better."""


@dataclass(frozen=True, repr=False)
class Comparison(AnalysisPage):
    """The changes from one evaluation to another of the same images.

    Attributes:
        baseline: The first evaluation.
        candidate: The second evaluation.
        differences: Metric name -> its change.
        ranked_by: The metric by which images are compared.
        changes: Image id -> change of that metric, the largest deterioration first.
        draws: Number of resamples for the intervals.
        seed: Seed of the resampling.
        unmatched: Images of one side only, which are not compared.
    """

    file_name = "compare.json"

    baseline: EvaluationResult
    candidate: EvaluationResult
    differences: dict[str, Difference]
    ranked_by: str
    changes: dict[str, float]
    draws: int
    seed: int
    unmatched: tuple[str, ...] = ()

    def __repr__(self) -> str:
        changes = ", ".join(f"{name} {each.change:+.4g}" for name, each in self.differences.items())
        return f"Comparison({self.baseline.origin} to {self.candidate.origin}: {changes})"

    def verdict(self, name: str) -> str:
        """ "better" or "worse" if the change of a metric is significant, otherwise empty."""
        difference = self.differences[name]
        if not difference.is_significant:
            return ""
        return (
            "better"
            if (difference.change > 0) == get_metric_info(self.baseline.report.task, name).higher_is_better
            else "worse"
        )

    @property
    def has_same_setup(self) -> bool:
        """Whether both sides have the same protocol, counts and weights."""
        first, second = self.baseline.report.to_dict(), self.candidate.report.to_dict()
        is_same = all(first.get(part) == second.get(part) for part in ("protocol", "counts", "named"))
        return is_same and self.baseline.card == self.candidate.card

    def worse(self, limit: int) -> list[str]:
        """At most `limit` images that got worse, the worst first."""
        return [image_id for image_id, value in self.changes.items() if self._sign * value < 0][:limit]

    def better(self, limit: int) -> list[str]:
        """At most `limit` images that got better, the best first."""
        return [image_id for image_id, value in reversed(self.changes.items()) if self._sign * value > 0][:limit]

    @property
    def _sign(self) -> int:
        return 1 if get_metric_info(self.baseline.report.task, self.ranked_by).higher_is_better else -1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""
        differences = {
            name: {
                "one": difference.baseline,
                "other": difference.candidate,
                "change": difference.change,
                "above": difference.positive_share,
                "low": difference.interval.low,
                "high": difference.interval.high,
                "verdict": self.verdict(name),
            }
            for name, difference in self.differences.items()
        }
        sides = {"one": self.baseline, "other": self.candidate}
        reports = {side: evaluation.report.to_dict() for side, evaluation in sides.items()}
        return to_json_value(
            {
                "task": self.baseline.report.task,
                **{side: evaluation.origin for side, evaluation in sides.items()},
                **{part: {side: report[part] for side, report in reports.items()} for part in ("protocol", "counts")},
                "intervals": {"draws": self.draws, "seed": self.seed, "level": LEVEL},
                "versions": collect_versions(),
                "differences": differences,
                "judged on one side only": self.unmatched,
                "by": self.ranked_by,
                "images": self.changes,
            }
        )

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"{self.baseline.report.task}: comparison"

    def fill_page(self, page: HTMLPage, out: Path) -> None:
        """The changes with their intervals, and the images that changed most."""
        page.add_text(f"Baseline: {self.baseline.origin}\nCandidate: {self.candidate.origin}")
        if self.unmatched:
            page.add_text(f"Not compared, because one side lacks them: {', '.join(self.unmatched)}")
        page.add_heading("Changes")
        rows = [
            [name, d.baseline, d.candidate, d.change, *d.interval, self.verdict(name)]
            for name, d in self.differences.items()
        ]
        page.add_table(rows, ("", "baseline", "candidate", "change", f"{LEVEL:.0%} from", "to", ""))
        page.add_text(
            f"Intervals come from {self.draws:,} resamples of the images (seed {self.seed}), the same for both sides. "
            "A change is significant if its interval excludes 0."
        )
        finite = [value for value in self.changes.values() if math.isfinite(value)]
        if len(finite) > 1:
            plot_histogram(out / "plots/changes.png", finite, f"change of {self.ranked_by}")
            page.add_image(out / "plots/changes.png", f"change of {self.ranked_by} in single images")
        self._draw_images(page, "Largest deteriorations", self.worse(NUM_DRAWN))
        self._draw_images(page, "Largest improvements", self.better(NUM_DRAWN))
        add_provenance(page, self.baseline.report, self.baseline.card, "" if self.has_same_setup else ": baseline")
        if not self.has_same_setup:
            add_provenance(page, self.candidate.report, self.candidate.card, ": candidate")

    def _draw_images(self, page: HTMLPage, title: str, ids: list[str]) -> None:
        page.add_heading(title)
        if not ids:
            page.add_text("none")
        for first, second in zip(self.baseline.examples(ids), self.candidate.examples(ids)):
            panels, captions = draw_side_by_side(first, [("candidate", second.prediction)])
            captions = [caption.replace("prediction", "baseline", 1) for caption in captions]
            caption = f"{self.ranked_by} {self.changes[first.image_id]:+.4g}"
            draw_example(page, first, caption, (panels, captions), width=2000)


def compare(
    baseline: EvaluationResult,
    candidate: EvaluationResult,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    on_error: OnError = "fail",
    out: Path | None = None,
    command: str = "",
) -> Comparison:
    """Compares two evaluations of the same images by a paired bootstrap.

    Args:
        baseline: The first evaluation; changes are relative to it.
        candidate: The second evaluation.
        draws: Number of resamples.
        seed: Seed of the resampling.
        on_error: "skip" compares the images that both sides have, and lists the others.
        out: Folder for a page and compare.json.
        command: The command that reproduces the page.

    Raises:
        UsageError: The evaluations are of different tasks.
        DataError: They are of different images, or under "skip" have none in common.
    """
    if baseline.report.task != candidate.report.task:
        value = f"{baseline.report.task} and {candidate.report.task}"
        raise UsageError("only evaluations of one task can be compared", value=value)
    first: PerImageStats = baseline.metric.per_image()
    second: PerImageStats = candidate.metric.per_image()
    common = set(first.ids) & set(second.ids)
    unmatched = sorted((set(first.ids) | set(second.ids)) - common) if on_error == "skip" and common else []
    if unmatched:
        first, second = ImageSubset(first, common), ImageSubset(second, common)
    differences = compare_paired(first, second, draws, seed)
    first_columns, second_columns = first.compute_each(), second.compute_each()
    ranked_by = next(name for name in differences if name in first_columns and name in second_columns)
    with np.errstate(invalid="ignore"):
        change = second_columns[ranked_by] - first_columns[ranked_by]
    defined = [(image_id, float(value)) for image_id, value in zip(first.ids, change) if not math.isnan(value)]
    sign = 1 if get_metric_info(baseline.report.task, ranked_by).higher_is_better else -1
    changes = dict(sorted(defined, key=lambda pair: sign * pair[1]))
    comparison = Comparison(baseline, candidate, differences, ranked_by, changes, draws, seed, tuple(unmatched))
    if out is not None:
        comparison.write(out, command)
    return comparison
