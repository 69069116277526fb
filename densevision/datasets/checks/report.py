"""Runs the checks of a dataset and reports their findings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densevision.datasets.checks.catalog import SEVERITIES
from densevision.datasets.checks.context import CheckContext, Finding, Progress
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import parse_scene_splits
from densevision.errors import UsageError
from densevision.io.placeholders import is_stand_in
from densevision.optional_packages import import_optional
from densevision.run_config import TaskConfig

__all__ = ["CheckReport", "check_dataset"]


@dataclass(frozen=True, repr=False)
class CheckReport:
    """The result of `check`.

    Attributes:
        task: The task's name.
        data: The dataset.
        counts: Split -> unit, such as "images" -> number that was checked.
        findings: The most severe first.
        notes: Choices made on the way, such as how the dataset was split.
        changes: What differs in the cleaned copy, one line each; None if no copy was requested.
    """

    task: str
    data: str
    counts: dict[str, dict[str, int]]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    changes: list[str] | None = None

    def __repr__(self) -> str:
        """The findings by name and count, without their places."""
        findings = ", ".join(f"{each.severity} {each.check.name} ({each.count})" for each in self.findings)
        return f"CheckReport({self.task}, {self.data}: {findings or 'no problems found'})"

    def to_pandas(self) -> Any:
        """Converts to a `pandas.DataFrame` with one row per finding: severity, name, count, hint.

        Raises:
            UsageError: The package pandas is not installed.
        """
        pandas = import_optional("pandas", "to_pandas")
        columns = ("severity", "name", "count", "hint")
        rows = [(each.severity, each.check.name, each.count, each.check.hint) for each in self.findings]
        return pandas.DataFrame(rows, columns=columns)

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        kinds = {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}
        values = {
            "task": self.task,
            "data": self.data,
            "counts": self.counts,
            "kinds": kinds,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": self.notes,
        }
        return values | ({} if self.changes is None else {"changes": self.changes})

    def to_json(self) -> str:
        """Returns the report as one JSON object."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def check_dataset(
    task: str,
    config: TaskConfig,
    check: Callable[[Any, CheckContext], None],
    out: str | os.PathLike[str] | None,
    progress: Progress,
) -> CheckReport:
    """Checks the dataset that a config names.

    Args:
        task: The task's name.
        config: Its config.
        check: The function `check` of the task's checks.
        out: Folder of a cleaned copy; None writes none.
        progress: Wraps sequences in a progress bar.

    Raises:
        UsageError: The config names no dataset, or a copy of procedural scenes is requested.
    """
    data = config.dataset
    if not data:
        raise UsageError("no dataset is given", field="data.path", hint="Give the folder of a dataset, or scenes.")
    if out is not None and data != config.data.path:
        problem, hint = (
            "several datasets cannot be cleaned at once",
            "Clean that of each task with the task's own check.",
        )
        raise UsageError(problem, field="--fix", value=os.fspath(out), hint=hint)
    folder = _get_folder(locate_dataset(config.data) if data == config.data.path else data)
    if out is not None and is_stand_in(folder):
        problem, hint = "shards and remote storage are not cleaned", "Unpack or download the dataset, and clean that."
        raise UsageError(problem, field="--fix", value=os.fspath(out), hint=hint)
    context = CheckContext(progress)
    check(config, context)
    changes = None
    if out is not None:
        if parse_scene_splits(data) is not None:
            problem = "procedural scenes cannot be cleaned"
            raise UsageError(problem, field="--fix", value=os.fspath(out), hint="Remove --fix.")
        changes = context.fix_plan.write_copy(folder, out)
    context.shorten_paths(folder)
    return CheckReport(task, data, context.counts, context.findings, list(dict.fromkeys(context.notes)), changes)


def _get_folder(data: str) -> Path:
    """Returns the folder of a dataset: for a COCO JSON in annotations/ the one above, for any other file its own."""
    path = Path(data)
    if not path.is_file():
        return path
    return path.parent.parent if path.parent.name.lower().startswith("annotation") else path.parent
