"""The result of an evaluation as numbers with their protocol."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densevision.errors import UsageError, did_you_mean
from densevision.io.json_writer import dump_json, to_json_value, write_json
from densevision.metrics.metric import Tables
from densevision.optional_packages import import_optional

__all__ = ["Report"]


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        """Task, metrics and counts in a few lines; the tables are named."""
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        counts = ", ".join(f"{name} {value}" for name, value in self.counts.items() if value != [])
        tables = f"; tables: {', '.join(self.tables)}" if self.tables else ""
        return f"Report({self.task}: {numbers}; {counts}{tables})"

    def _repr_html_(self) -> str:
        """The metrics with their meaning, and the counts, for notebooks."""
        from densevision.tasks import get_metric_info

        texts = {name: get_metric_info(self.task, name).text for name in self.metrics}
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td><td>{html.escape(texts[name])}</td></tr>"
            for name, value in self.metrics.items()
        )
        counts = ", ".join(f"{name} {value}" for name, value in self.counts.items() if value != [])
        return f"<table><caption>{html.escape(self.task)}</caption>{rows}</table><p>{html.escape(counts)}</p>"

    def to_pandas(self, table: str | None = None) -> Any:
        """Converts to a `pandas.DataFrame`: one row per metric, or the rows of a table, such as classes.

        Args:
            table: A key of `tables`, e.g. "per class"; the headline metrics by default.

        Raises:
            UsageError: There is no such table, or the package pandas is not installed.
        """
        pandas = import_optional("pandas", "to_pandas")
        if table is None:
            return pandas.DataFrame({"metric": list(self.metrics), "value": list(self.metrics.values())})
        if table not in self.tables:
            raise UsageError("no such table", field="table", value=table, hint=did_you_mean(table, self.tables))
        return pandas.DataFrame.from_dict(self.tables[table], orient="index")

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
