"""Two judgements of the same images: what changed, how surely, and where most. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.html_page import Page
from densevision.draw.plots import histogram
from densevision.errors import UsageError
from densevision.evaluation.provenance import show_basis, show_origin
from densevision.evaluation.result import EvaluationResult, Example, side_by_side
from densevision.metrics.bootstrap import DRAWS, LEVEL, Chosen, Difference, compare
from densevision.metrics.metric_info import metric_info
from densevision.metrics.scoring import OnError
from densevision.run_folder import versions

SHOWN = 6
"""Images that are drawn of those that got worse, and of those that got better."""


@dataclass(frozen=True)
class Comparison:
    """What another answer to the same images changes.

    Attributes:
        one: The first side.
        other: The second side; changes are towards it.
        differences: Name -> its change.
        ranked: The number by which images are compared.
        changes: Image -> change of that number, the largest worsening first.
        draws: How often the images were drawn anew for the intervals.
        seed: Of the draws.
        alone: Images that only one side judges, and that are not compared.
    """

    one: EvaluationResult
    other: EvaluationResult
    differences: dict[str, Difference]
    ranked: str
    changes: dict[str, float]
    draws: int
    seed: int
    alone: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        one: EvaluationResult,
        other: EvaluationResult,
        draws: int = DRAWS,
        seed: int = 0,
        on_error: OnError = "fail",
    ) -> Comparison:
        """Compares two judgements.

        Args:
            one: The first side.
            other: The second side.
            draws: How often the images are drawn anew.
            seed: Of the draws.
            on_error: "skip" compares the images that both sides judge, and names the others.

        Raises:
            UsageError: They are of different tasks.
            DataError: They are not of the same images, or under "skip" have none in common.
        """
        if one.report.task != other.report.task:
            raise UsageError("only answers to one task compare", value=f"{one.report.task} and {other.report.task}")
        first, second = one.metric.per_image(), other.metric.per_image()
        common = set(first.ids) & set(second.ids)
        alone = sorted((set(first.ids) | set(second.ids)) - common) if on_error == "skip" and common else []
        if alone:
            first, second = Chosen(first, common), Chosen(second, common)
        differences = compare(first, second, draws, seed)
        mine, theirs = first.each(), second.each()
        ranked = next(name for name in differences if name in mine and name in theirs)
        with np.errstate(invalid="ignore"):
            change = theirs[ranked] - mine[ranked]
        known = [(id, float(value)) for id, value in zip(first.ids, change) if not math.isnan(value)]
        sign = 1 if metric_info(ranked).higher_is_better else -1
        changes = dict(sorted(known, key=lambda pair: sign * pair[1]))
        return cls(one, other, differences, ranked, changes, draws, seed, tuple(alone))

    def verdict(self, name: str) -> str:
        """Whether a number is surely better or worse, in a word; empty where it may be either."""
        found = self.differences[name]
        if not found.certain:
            return ""
        return "better" if (found.change > 0) == metric_info(name).higher_is_better else "worse"

    @property
    def alike(self) -> bool:
        """Whether the numbers of both sides rest on the same: protocol, counts and weights."""
        one, other = self.one.report.to_dict(), self.other.report.to_dict()
        same = all(one.get(part) == other.get(part) for part in ("protocol", "counts", "named"))
        return same and self.one.card == self.other.card

    def worse(self, most: int) -> list[str]:
        """The images that got worse, at most so many, the worst first."""
        return [id for id, value in self.changes.items() if self._sign * value < 0][:most]

    def better(self, most: int) -> list[str]:
        """The images that got better, at most so many, the best first."""
        return [id for id, value in reversed(self.changes.items()) if self._sign * value > 0][:most]

    @property
    def _sign(self) -> int:
        return 1 if metric_info(self.ranked).higher_is_better else -1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not finite is null."""
        rows = {}
        for name, found in self.differences.items():
            values = {"one": found.one, "other": found.other, "change": found.change, "above": found.above}
            values |= {"low": found.interval.low, "high": found.interval.high}
            finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
            rows[name] = {**finite, "verdict": self.verdict(name)}
        changes = {id: value if math.isfinite(value) else None for id, value in self.changes.items()}
        sides = {"one": self.one, "other": self.other}
        reports = {side: judged.report.to_dict() for side, judged in sides.items()}
        return {
            "task": self.one.report.task,
            **{side: judged.origin for side, judged in sides.items()},
            **{part: {side: report[part] for side, report in reports.items()} for part in ("protocol", "counts")},
            "intervals": {"draws": self.draws, "seed": self.seed, "level": LEVEL},
            "versions": versions(),
            "differences": rows,
            "judged on one side only": list(self.alone),
            "by": self.ranked,
            "images": changes,
        }

    def examples(self, ids: list[str]) -> list[tuple[Example, Example]]:
        """Images with both answers."""
        return list(zip(self.one.examples(ids), self.other.examples(ids)))

    def write(self, out: Path, command: str = "") -> Path:
        """Writes a page: the changes with their intervals, and the images that changed most, drawn side by side."""
        page = Page(f"{self.one.report.task}: two answers compared")
        page.text(f"One: {self.one.origin}\nOther: {self.other.origin}")
        if self.alone:
            page.text(f"Not compared, as only one side judges them: {', '.join(self.alone)}")
        page.heading("Changes")
        rows = [
            [name, d.one, d.other, d.change, d.interval.low, d.interval.high, self.verdict(name)]
            for name, d in self.differences.items()
        ]
        page.table(rows, ("", "one", "other", "change", f"{LEVEL:.0%} from", "to", ""))
        page.text(
            f"Both sides are judged on the same {self.draws:,} draws of the images (seed {self.seed}). A verdict "
            "stands where 0 is not inside."
        )
        finite = [value for value in self.changes.values() if math.isfinite(value)]
        if len(finite) > 1:
            histogram(out / "plots/changes.png", finite, f"change of {self.ranked}")
            page.image(out / "plots/changes.png", f"change of {self.ranked} in the images one by one")
        self._draw(page, "Changed most for the worse", self.worse(SHOWN))
        self._draw(page, "Changed most for the better", self.better(SHOWN))
        show_basis(page, self.one.report, self.one.card, "" if self.alike else ": one")
        if not self.alike:
            show_basis(page, self.other.report, self.other.card, ": other")
        show_origin(page, command)
        return page.write(out / "index.html")

    def _draw(self, page: Page, title: str, ids: list[str]) -> None:
        page.heading(title)
        if not ids:
            page.text("none")
        for first, second in self.examples(ids):
            drawn, captions = side_by_side(first, [("other", second.answer)])
            captions = ["one" if caption == "answer" else caption for caption in captions]
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(2000, 420 * len(drawn)))
            page.image(sheet, f"{first.id}: {self.ranked} {self.changes[first.id]:+.4g}")
