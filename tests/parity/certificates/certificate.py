"""Certificates: a metric, a reference, and cases in which both compute a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple


class Case(NamedTuple):
    """One number from the metric and from the reference.

    Attributes:
        name: What the case is about; cases of one name are reported together.
        ours: The number of densevision.
        reference: The number of the reference.
    """

    name: str
    ours: float
    reference: float

    @property
    def difference(self) -> float:
        """Absolute difference; 0 if both are NaN or the same infinity."""
        if self.ours == self.reference or (math.isnan(self.ours) and math.isnan(self.reference)):
            return 0.0
        gap = abs(self.ours - self.reference)
        return math.inf if math.isnan(gap) else gap


@dataclass(frozen=True)
class Certificate:
    """A comparison.

    Attributes:
        task: Task, or tasks.
        metric: Names of the numbers.
        reference: Python distribution of the reference, or the definition in words.
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
    """The result of a certificate.

    Attributes:
        count: Number of cases.
        largest: The largest difference.
        names: Name -> number of cases.
    """

    count: int
    largest: float
    names: dict[str, int]


def evaluate_cases(cases: Iterable[Case]) -> Outcome:
    """Counts the cases and computes the largest difference."""
    largest, names = 0.0, {}
    for case in cases:
        largest = max(largest, case.difference)
        names[case.name] = names.get(case.name, 0) + 1
    return Outcome(sum(names.values()), largest, names)


def pair_numbers(name: str, ours: dict[str, float], reference: dict[str, float]) -> Iterator[Case]:
    """A case for each number of the reference."""
    for key, value in reference.items():
        yield Case(name, float(ours[key]), float(value))
