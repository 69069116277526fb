"""Collects the findings of the checks of one dataset, and plans its cleaned copy."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from densevision.datasets.checks.catalog import SEVERITIES, Check, Severity, make_check
from densevision.datasets.checks.fixes import FixPlan
from densevision.io.label_issues import KEPT, LabelIssue, LabelIssues

__all__ = ["CheckContext", "Finding", "Location", "Progress", "SplitIssues"]

MAX_LOCATIONS = 20
"""Locations that a finding stores; further ones are only counted."""
PENDING_PER_THREAD = 8
"""Results of each thread that may wait for their use, which bounds the memory."""

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""A progress bar: returns the items unchanged, given them and a title."""


@dataclass(frozen=True)
class Location:
    """Where a problem is: the file, the field in it, and the value there."""

    file: str
    field: str | None = None
    value: Any = None

    def __str__(self) -> str:
        location = f"{self.file}: {self.field}" if self.field else self.file
        return location if self.value is None else f"{location} ({self.value})"


@dataclass
class Finding:
    """The problems of one kind in a dataset.

    Attributes:
        check: The check that failed.
        severity: That of the check, or a milder one if the problem is allowed in this dataset.
        count: Number of problems.
        locations: The first few of them.
    """

    check: Check
    severity: Severity
    count: int = 0
    locations: list[Location] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        examples = [
            {"file": location.file, "field": location.field, "value": _to_text(location.value)}
            for location in self.locations
        ]
        return {
            "name": self.check.name,
            "severity": self.severity,
            "count": self.count,
            "meaning": self.check.description,
            "examples": examples,
            "hint": self.check.hint,
        }


class SplitIssues(LabelIssues):
    """Label issues of all splits; an issue of a file that several splits share is counted once."""

    def __init__(self) -> None:
        super().__init__("fix")
        self._reported: set[int] = set()

    def _record(self, issue: LabelIssue, subject: str | None) -> None:
        key = hash((issue.kind, issue.file, issue.field, repr(issue.value)))
        if key not in self._reported:
            self._reported.add(key)
            super()._record(issue, subject)


class CheckContext:
    """Collects the findings of one dataset.

    Args:
        progress: Wraps sequences in a progress bar.
        threads: Number of threads that read files; one per available core by default.

    Attributes:
        counts: Split -> unit, such as "images" -> number that was checked.
        notes: Choices made on the way, such as how the dataset was split.
        fix_plan: Describes the cleaned copy.
    """

    def __init__(self, progress: Progress = lambda items, title: items, threads: int | None = None):
        self.progress = progress
        self.threads = threads or _count_cores()
        self.counts: dict[str, dict[str, int]] = {}
        self.notes: list[str] = []
        self.fix_plan = FixPlan()
        self._findings: dict[tuple[str, Severity], Finding] = {}

    def add(
        self,
        check: Check,
        file: str | os.PathLike[str],
        field: str | None = None,
        value: Any = None,
        severity: Severity | None = None,
    ) -> None:
        """Reports one problem.

        Args:
            check: The check that failed.
            file: The file with the problem.
            field: The place in the file.
            value: The value there.
            severity: Replaces the severity of the check.
        """
        self._add(check, severity or check.severity, 1, [Location(os.fspath(file), field, value)])

    def add_issues(self, issues: LabelIssues) -> None:
        """Reports the issues of a label reader; what is kept under every policy is a warning."""
        for (kind, action), count in issues.counts.items():
            locations = [
                Location(example.file, example.field, example.value)
                for example in issues.examples
                if example.kind is kind and example.action == action
            ]
            check = make_check(kind)
            is_allowed = action == KEPT and kind.fix_action != KEPT
            self._add(check, "warning" if is_allowed else check.severity, count, locations)

    def set_counts(self, split: str, **numbers: int) -> None:
        """Stores how much of a split was checked, by unit."""
        self.counts.setdefault(split, {}).update(numbers)

    def map_parallel(self, function: Callable[[T], R], items: Sequence[T], title: str) -> Iterator[R]:
        """Applies a function to items in several threads, with a progress bar; yields the results in order."""
        pending: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for item in self.progress(items, title):
                pending.append(pool.submit(function, item))
                if len(pending) >= PENDING_PER_THREAD * self.threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    @property
    def findings(self) -> list[Finding]:
        """All findings, the most severe first."""
        order = list(SEVERITIES)
        return sorted(self._findings.values(), key=lambda finding: order.index(finding.severity))

    def merge(self, other: CheckContext, is_same_data: bool) -> None:
        """Adds counts, notes and findings of another context.

        Args:
            other: The other context.
            is_same_data: Both are of the same data: of a kind of problem that both found, the larger number counts.
        """
        self.notes += other.notes
        for split, numbers in other.counts.items():
            self.set_counts(split, **numbers)
        for finding in other.findings:
            known = self._findings.get((finding.check.name, finding.severity))
            count = max(0, finding.count - known.count) if is_same_data and known is not None else finding.count
            new = [each for each in finding.locations if known is None or each not in known.locations]
            self._add(finding.check, finding.severity, count, new)

    def shorten_paths(self, root: str | os.PathLike[str]) -> None:
        """Makes the paths of files below a folder relative to it."""
        prefix = os.path.join(os.path.abspath(root), "")
        for finding in self._findings.values():
            finding.locations = [
                replace(location, file=_shorten_path(location.file, prefix)) for location in finding.locations
            ]

    def _add(self, check: Check, severity: Severity, count: int, locations: Sequence[Location]) -> None:
        finding = self._findings.setdefault((check.name, severity), Finding(check, severity))
        finding.count += count
        finding.locations += locations[: MAX_LOCATIONS - len(finding.locations)]


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 4


def _to_text(value: Any) -> str | None:
    return None if value is None else str(value)


def _shorten_path(file: str, prefix: str) -> str:
    path = os.path.abspath(file)
    if os.path.join(path, "") == prefix:
        return "."
    return path.removeprefix(prefix) if path.startswith(prefix) else file
