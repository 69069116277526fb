"""The result of an evaluation as numbers with their protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densevision.io.json_writer import dump_json, to_json_value, write_json
from densevision.metrics.metric import Tables

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The numbers of one evaluation.

    Attributes:
        task: The task's name.
        metrics: Headline metrics by name; NaN where undefined.
        protocol: Everything that is needed to reproduce the numbers.
        counts: Numbers of images, ground truths, predictions, and of whatever was left out.
        named: What was counted -> names of the images or files, such as those without prediction.
        tables: Numbers below the headline.
    """

    task: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    counts: dict[str, Any]
    tables: Tables = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""
        values = {"task": self.task, "metrics": self.metrics, "protocol": self.protocol, "counts": self.counts}
        optional = {"named": self.named, "tables": self.tables}
        return to_json_value(values | {name: part for name, part in optional.items() if part})

    def to_json(self) -> str:
        """The report as one JSON object."""
        return dump_json(self.to_dict())

    def write(self, path: Path) -> None:
        """Writes indented JSON, atomically."""
        write_json(path, self.to_dict())
