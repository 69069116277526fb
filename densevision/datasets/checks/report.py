"""One check of one dataset: what was looked at, what was found, and what a cleaned copy changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densevision.datasets.checks.catalog import SEVERITIES
from densevision.datasets.checks.context import CheckContext, Finding, Progress
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import UsageError
from densevision.run_config import TaskConfig


@dataclass(frozen=True)
class CheckReport:
    """What `check` says.

    Attributes:
        task: The task's name.
        data: The dataset.
        counts: Split -> what -> how many were looked at.
        findings: The gravest first.
        notes: Choices that were made on the way.
        changes: What the cleaned copy left out or wrote anew, a line each; None where none was asked for.
    """

    task: str
    data: str
    counts: dict[str, dict[str, int]]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    changes: list[str] | None = None

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(found.severity == "error" for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        totals = {severity: sum(found.severity == severity for found in self.findings) for severity in SEVERITIES}
        values = {
            "task": self.task,
            "data": self.data,
            "counts": self.counts,
            "kinds": totals,
            "findings": [found.to_dict() for found in self.findings],
            "notes": self.notes,
        }
        return values | ({} if self.changes is None else {"changes": self.changes})

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def examine(
    task: str,
    config: TaskConfig,
    check: Callable[[Any, CheckContext], None],
    fix: str | os.PathLike[str] | None,
    progress: Progress,
) -> CheckReport:
    """Checks the dataset that a config names, and writes a cleaned copy where one is asked for.

    Raises:
        UsageError: No data is named, or scenes, which are drawn anew each time, should be cleaned.
    """
    data = config.data.path
    if not data:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    context = CheckContext(progress)
    check(config, context)
    changes = None
    if fix is not None:
        if scene_splits(data) is not None:
            raise UsageError("scenes have nothing to clean", field="--fix", value=os.fspath(fix), hint="Leave it out.")
        changes = context.repair.write(_folder(data), fix)
    context.relative_to(_folder(data))
    return CheckReport(task, data, context.counts, context.findings, list(dict.fromkeys(context.notes)), changes)


def _folder(data: str) -> Path:
    """The folder of a dataset; of a COCO json in annotations/ the one above, of any other file its own."""
    path = Path(data)
    if not path.is_file():
        return path
    return path.parent.parent if path.parent.name.lower().startswith("annotation") else path.parent
