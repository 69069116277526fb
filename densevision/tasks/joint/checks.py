"""Checks of the datasets of a joint model: those of its tasks. No torch here."""

from __future__ import annotations

from densevision.datasets.checks.context import CheckContext
from densevision.tasks import TASKS, load_check
from densevision.tasks.joint.config import JointConfig
from densevision.tasks.joint.names import NAME

__all__ = ["CHECKS", "check"]

CHECKS = tuple(dict.fromkeys(check for task in TASKS.built_in if task != NAME for check in load_check(task).CHECKS))
"""All checks that `check` may run."""


def check(config: JointConfig, context: CheckContext) -> None:
    """Checks the dataset of every task. A problem that several tasks find in one dataset counts once.

    Raises:
        DataError: A dataset is not recognized, or cannot be read at all.
    """
    checked: set[str | None] = set()
    for name, part in config.heads.items():
        own = CheckContext(context.progress, context.threads)
        own.fix_plan = context.fix_plan
        load_check(part.task).check(part, own)
        own.notes = [f"{name}: {note}" for note in own.notes]
        context.merge(own, part.data.path in checked)
        checked.add(part.data.path)
