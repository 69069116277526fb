"""What a certificate is: a metric, a reference, and cases in which both give a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple


class Case(NamedTuple):
    """One number from both sides.

    Attributes:
        name: What the case is about; cases of one name are told together.
        ours: The number of densevision.
        theirs: The number of the reference.
    """

    name: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """How far apart they are; 0 where neither defines a number or both are the same infinity."""
        if self.ours == self.theirs or (math.isnan(self.ours) and math.isnan(self.theirs)):
            return 0.0
        gap = abs(self.ours - self.theirs)
        return math.inf if math.isnan(gap) else gap


@dataclass(frozen=True)
class Certificate:
    """A comparison.

    Attributes:
        task: Task, or tasks.
        metric: Names of the numbers.
        reference: Distribution whose version is told, or the definition in words.
        cases: Makes the cases.
        tolerance: Largest difference that counts as equal.
    """

    task: str
    metric: str
    reference: str
    cases: Callable[[], Iterator[Case]]
    tolerance: float = 1e-9

    @property
    def versioned(self) -> str:
        """The reference with its version, where it is a package."""
        package, comma, rest = self.reference.partition(",")
        try:
            return f"{package} {metadata.version(package)}{comma}{rest}"
        except metadata.PackageNotFoundError:
            return self.reference


class Outcome(NamedTuple):
    """What a certificate shows.

    Attributes:
        count: Cases.
        largest: The largest difference.
        names: Name of cases -> how many there are.
    """

    count: int
    largest: float
    names: dict[str, int]


def outcome(cases: Iterable[Case]) -> Outcome:
    """Counts cases and finds the largest difference."""
    largest, names = 0.0, {}
    for case in cases:
        largest = max(largest, case.difference)
        names[case.name] = names.get(case.name, 0) + 1
    return Outcome(sum(names.values()), largest, names)


def side_by_side(name: str, ours: dict[str, float], theirs: dict[str, float]) -> Iterator[Case]:
    """A case for each number that the reference gives."""
    for key, value in theirs.items():
        yield Case(name, float(ours[key]), float(value))
