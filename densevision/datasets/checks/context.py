"""Gathers what checks find in one dataset: counted, with examples, and with the repairs that `--fix` makes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from densevision.datasets.checks.catalog import SEVERITIES, Check, Severity, of_kind
from densevision.datasets.checks.fixes import Repair
from densevision.io.label_issues import KEPT, Findings, Kind

EXAMPLES = 20
"""Places of one finding that are remembered; beyond, they are only counted."""
AHEAD = 8
"""Readings that each thread may be ahead of the checks that use them, so that memory does not grow with the dataset."""

A, B = TypeVar("A"), TypeVar("B")
Progress = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Place:
    """Where something was found: the file, the field in it where there is one, and what was found."""

    file: str
    field: str | None = None
    value: Any = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return where if self.value is None else f"{where} ({self.value})"


@dataclass
class Finding:
    """One check that found something.

    Attributes:
        check: Which.
        severity: The check's own, or a milder one where the thing is allowed there.
        count: How many times.
        places: The first few of them.
    """

    check: Check
    severity: Severity
    count: int = 0
    places: list[Place] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        examples = [
            {"file": place.file, "field": place.field, "value": None if place.value is None else str(place.value)}
            for place in self.places
        ]
        return {
            "name": self.check.name,
            "severity": self.severity,
            "count": self.count,
            "meaning": self.check.metric_info,
            "examples": examples,
            "hint": self.check.hint,
        }


class FindingsOfSplits(Findings):
    """What readers find in all splits of a dataset: a file that several splits share is read with each of them."""

    def __init__(self) -> None:
        super().__init__("fix")
        self._known: set[int] = set()

    def _record(
        self, kind: Kind, file: str | os.PathLike[str], field: str | None, value: Any, action: str, about: str | None
    ) -> None:
        place = hash((kind, os.fspath(file), field, repr(value)))
        if place not in self._known:
            self._known.add(place)
            super()._record(kind, file, field, value, action, about)


class CheckContext:
    """The findings of one dataset.

    Args:
        progress: A bar: a function from a list and a title to the same things.
        threads: That read files; one per core that this process may use when not given.

    Attributes:
        counts: Split -> what -> how many were looked at.
        notes: Choices that were made on the way, such as how the dataset was divided.
        repair: What `--fix` would do.
    """

    def __init__(self, progress: Progress = lambda items, title: items, threads: int | None = None):
        self.progress = progress
        self.threads = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(4))
        self.counts: dict[str, dict[str, int]] = {}
        self.notes: list[str] = []
        self.repair = Repair()
        self._found: dict[tuple[str, Severity], Finding] = {}

    def add(
        self,
        check: Check,
        file: str | os.PathLike[str],
        field: str | None = None,
        value: Any = None,
        severity: Severity | None = None,
    ) -> None:
        """Counts one thing that was found, and remembers where."""
        place = Place(os.fspath(file), field, value)
        self._add(check, severity or check.severity, 1, [place])

    def take(self, findings: Findings) -> None:
        """Adds what a reader of labels found; what is kept under every policy is a warning."""
        for (kind, action), count in findings.counts.items():
            places = [
                Place(example.file, example.field, example.value)
                for example in findings.examples
                if example.kind is kind and example.action == action
            ]
            check = of_kind(kind)
            self._add(check, "warning" if action == KEPT and kind.fixed != KEPT else check.severity, count, places)

    def counted(self, split: str, **numbers: int) -> None:
        """Says how much of a split was looked at."""
        self.counts.setdefault(split, {}).update(numbers)

    def spread(self, function: Callable[[A], B], items: Sequence[A], title: str) -> Iterator[B]:
        """The function's answer to each item, in order, with several threads reading and a bar."""
        waiting: deque[Future[B]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for item in self.progress(items, title):
                waiting.append(pool.submit(function, item))
                if len(waiting) >= AHEAD * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    @property
    def findings(self) -> list[Finding]:
        """What was found, the gravest first."""
        order = list(SEVERITIES)
        return sorted(self._found.values(), key=lambda found: order.index(found.severity))

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(found.severity == "error" for found in self._found.values())

    def relative_to(self, root: str | os.PathLike[str]) -> None:
        """Shortens the names of files below a folder."""
        base = os.path.join(os.path.abspath(root), "")
        for found in self._found.values():
            found.places = [replace(place, file=_below(place.file, base)) for place in found.places]

    def _add(self, check: Check, severity: Severity, count: int, places: Sequence[Place]) -> None:
        found = self._found.setdefault((check.name, severity), Finding(check, severity))
        found.count += count
        found.places += places[: EXAMPLES - len(found.places)]


def _below(file: str, base: str) -> str:
    path = os.path.abspath(file)
    if os.path.join(path, "") == base:
        return "."
    return path[len(base) :] if path.startswith(base) else file
