"""What a conversion could not carry over."""

from __future__ import annotations

from collections import Counter

__all__ = ["ConversionReport"]


class ConversionReport:
    """Counts the information that the target format cannot represent.

    Attributes:
        counts: Kind of information -> how often it was lost.
        notes: Choices and skipped labels.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def add(self, description: str, count: int = 1) -> None:
        """Counts lost information, described by a plural noun such as "category ids"."""
        if count:
            self.counts[description] += count

    def format_lines(self) -> list[str]:
        """Returns a line per kind of lost information, followed by the notes."""
        return [f"{description}: {count:,}" for description, count in self.counts.items()] + self.notes
