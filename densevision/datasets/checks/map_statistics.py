"""What the checks of depth and flow know of a ground-truth map."""

from __future__ import annotations

from dataclasses import dataclass, field

from densevision.datasets.checks.catalog import Check

__all__ = ["MapStatistics"]


@dataclass(frozen=True)
class MapStatistics:
    """Size and known part of a ground-truth map, or the check that it fails.

    Attributes:
        size: (height, width).
        known: Fraction of pixels whose value is known.
        failed: The check that fails if the file cannot be read.
        message: Details of that.
    """

    size: tuple[int, int] = (0, 0)
    known: float = 0.0
    failed: Check | None = field(default=None, kw_only=True)
    message: str = field(default="", kw_only=True)
