"""The page that lists every check, made of the tables that the checks themselves use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from densevision.datasets.checks.catalog import CLASSES, SEVERITIES, SHARED, Check

HEAD = """# Checks of datasets

`densevision TASK check DATA` looks at every file and label of a dataset before it is trained on, and prints what it
found by name, with its severity, how often, where, and the fix. `--json` prints the same as one object. The exit code
is 3 where there are errors and 0 otherwise, so that a pipeline can stop there. In Python: `densevision.check(task,
data)`.

`--fix OUT` writes a cleaned copy into a new folder and says what it changed: nothing is changed in place, and the copy
is written whole or not at all. What the copy does about each finding stands in the last column; where it stands empty,
only a person can tell what is right. What readers of labels allow, such as an image without objects in YOLO's format,
is a warning whatever its severity below.

{severities}

Options of the task's config are given as in training: `--set data.scale=1000`, `--set data.val=test`.

This page is written by `python tools/document_checks.py` from the tables in the code; a test compares them.
"""


def page(tasks: Mapping[str, Iterable[Check]]) -> str:
    """The page in Markdown, given the checks of each task."""
    severities = "\n".join(f"- **{name}**: {metric_info}" for name, metric_info in SEVERITIES.items())
    parts = [HEAD.format(severities=severities)]
    parts += _section("Files, in every task", SHARED)
    parts += _section("Classes, in tasks that have them", CLASSES)
    known = {check.name for check in (*SHARED, *CLASSES)}
    for task, checks in tasks.items():
        parts += _section(task, [check for check in checks if check.name not in known])
    return "\n".join(parts)


def _section(title: str, checks: Iterable[Check]) -> list[str]:
    rows = [
        f"| `{check.name}` | {check.severity} | {check.metric_info} | {check.hint} | {check.fix or ''} |"
        for check in checks
    ]
    return [
        f"## {title}\n",
        "| name | severity | what was found | fix | `--fix` |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
