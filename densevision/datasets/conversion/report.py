"""What a conversion could not carry over, counted."""

from __future__ import annotations

from collections import Counter


class ConversionReport:
    """What the target cannot hold, and how much of it there was.

    Attributes:
        notes: Choices that were made on the way.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def add(self, what: str, count: int = 1) -> None:
        """Counts something that is lost, said as "category ids" or "areas that differ from the box's"."""
        if count:
            self.counts[what] += count

    def lines(self) -> list[str]:
        """A line for each kind of loss, then the notes."""
        return [f"{what}: {count:,}" for what, count in self.counts.items()] + self.notes
