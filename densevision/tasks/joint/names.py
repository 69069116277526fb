"""Names of the parts of a joint model: each is named after its task. Imports neither torch nor configs."""

from __future__ import annotations

from densevision.errors import UsageError, did_you_mean
from densevision.tasks import TASKS

__all__ = ["NAME", "find_task_name", "get_task_name"]

NAME = "joint"


def find_task_name(part: str) -> str | None:
    """The task after which a part is named, "instance" for "instance_people"; None if there is none."""
    names = [name for name in TASKS if name != NAME and (part == name or part.startswith(f"{name}_"))]
    return max(names, key=len, default=None)


def get_task_name(part: str) -> str:
    """The task after which a part is named.

    Raises:
        UsageError: It is named after no task or `joint` itself, is no identifier, or has two underscores in a row.
    """
    task = find_task_name(part)
    if task is None or not part.isidentifier() or "__" in part:
        hint = f"{did_you_mean(part, [name for name in TASKS if name != NAME])} More words may follow: instance_people."
        raise UsageError("is not named after a task", field="tasks", value=part, hint=hint)
    return task
