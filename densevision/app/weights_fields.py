"""Two fields that select weights: the task, and their name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from densevision.app.events import connect, connect_silent
from densevision.app.weights import WeightsShelf
from densevision.tasks import TASKS

__all__ = ["WeightsFields"]

TYPED_NOTE = "Or type the path of a file, or a name that `densevision models` lists."


class WeightsFields:
    """Fields for a task and for one or more weights of it, made in the surrounding layout.

    Args:
        shelf: The weights.
        prefix: Beginning of the element ids.
        labels: One label per weights.

    Attributes:
        task: The task.
        name: The first weights.
        names: All weights.
    """

    def __init__(self, shelf: WeightsShelf, prefix: str, labels: Sequence[str] = ("Weights",)):
        self.shelf = shelf
        tasks = shelf.list_tasks()
        self.task = gr.Dropdown(
            choices=tasks, value=tasks[0], label="Task", info=TASKS[tasks[0]], filterable=False,
            elem_id=f"{prefix}-task",
        )  # fmt: skip
        names = shelf.list_names(tasks[0])
        self.names = [
            gr.Dropdown(
                choices=names,
                value=names[min(number, len(names) - 1)] if names else None,
                label=label,
                info=TYPED_NOTE if shelf.options.allows_paths else None,
                allow_custom_value=shelf.options.allows_paths,
                elem_id=f"{prefix}-weights-{number}",
            )
            for number, label in enumerate(labels)
        ]
        self.name = self.names[0]

    def connect(
        self, outputs: Sequence[Any] = (), describe: Callable[[str, str], dict[Any, Any]] | None = None
    ) -> None:
        """Updates the weights when the task changes, and further components for both."""
        changed = connect(self.task.change, self.select_task, self.task, [self.task, *self.names])
        if describe is None:
            return

        def update(task: str, name: str | None) -> dict[Any, Any]:
            return describe(task, name) if name else {output: gr.skip() for output in outputs}

        for event in (changed.then, self.name.input):
            connect_silent(event, update, [self.task, self.name], list(outputs))

    def select_task(self, task: str) -> list[Any]:
        """Updates of the fields for another task."""
        names = self.shelf.list_names(task)
        values = [names[min(number, len(names) - 1)] if names else None for number in range(len(self.names))]
        return [gr.update(info=TASKS[task]), *(gr.update(choices=names, value=value) for value in values)]
