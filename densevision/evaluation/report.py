"""Numbers with their protocol: what evaluation and score give, print and write."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Report:
    """One evaluation.

    Attributes:
        task: The task's name.
        metrics: Headline numbers; NaN where nothing defines them.
        protocol: Everything that a reader needs in order to reproduce the numbers.
        counts: Images, truths, predictions, and whatever was left out.
        named: What was counted -> the names of the images or files, such as those without prediction.
        tables: Table -> row -> column -> number, below the headline.
    """

    task: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    counts: dict[str, Any]
    tables: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; NaN is null."""
        values = {"task": self.task, "metrics": self.metrics, "protocol": self.protocol, "counts": self.counts}
        further = {"named": self.named, "tables": self.tables}
        return _finite(values | {name: part for name, part in further.items() if part})

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    def write(self, path: Path) -> None:
        """Writes the JSON, indented, whole or not at all."""
        from densevision.io.atomic_write import write_text

        write_text(path, json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False, indent=1) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
