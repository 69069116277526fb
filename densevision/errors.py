"""Every error that a person can cause: one message with the file, the field, the value and the fix."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any

_ABSENT = object()


class DenseVisionError(Exception):
    """A failure that is explained in one line.

    Args:
        problem: What is wrong, a clause without a full stop; or a question.
        file: The file in which it is wrong.
        field: The field, key, row or option in it.
        value: What was found there.
        fix: What to do about it, a sentence.
    """

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        file: str | os.PathLike[str] | None = None,
        field: str | None = None,
        value: Any = _ABSENT,
        hint: str | None = None,
    ):
        self.problem, self.file, self.field, self.hint = problem, file, field, hint
        where = "".join(f"{part}: " for part in (file and os.fspath(file), field) if part)
        found = "" if value is _ABSENT else f" (got {_shortened(value)})"
        stop = "" if problem.endswith("?") and not found else "."
        super().__init__(f"{where}{problem}{found}{stop}" + (f" {hint}" if hint else ""))


class UsageError(DenseVisionError):
    """A command, call or config that asks for what does not exist or has no effect."""

    exit_code = 2


class DataError(DenseVisionError):
    """An image, label or dataset that cannot be used as it is."""

    exit_code = 3


class WeightsError(DenseVisionError):
    """Weights or a model that cannot be loaded, or that are not what was asked for."""

    exit_code = 4


class ExportError(DenseVisionError):
    """An export that failed, or whose answers differ from PyTorch's beyond the tolerance."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known name, or lists what is known.

    >>> did_you_mean("detecton", ["detection", "depth"])
    "Did you mean 'detection'?"
    >>> did_you_mean("x", ["a", "b"])
    'Known: a, b.'
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."


def _shortened(value: Any, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
