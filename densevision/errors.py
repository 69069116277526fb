"""Errors that a user can cause: one message with the file, the field, the value and a hint."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from typing import Any

from densevision.escaping import escape_control

__all__ = [
    "DataError",
    "DenseVisionError",
    "ExportError",
    "UsageError",
    "WeightsError",
    "convert_error",
    "did_you_mean",
    "rename_files_in_errors",
]

_UNSET = object()
_renamings: list[Callable[[str], str | None]] = []
MAX_VALUE_LENGTH = 120
"""Length in characters to which values are shortened in messages."""


class DenseVisionError(Exception):
    """An error with a message of one line.

    Args:
        problem: What is wrong, a clause without a period; or a question.
        file: The file with the problem.
        field: The field, key, row or option in it.
        value: The invalid value.
        hint: How to fix it, a sentence.
    """

    exit_code = 1

    value: Any

    def __init__(
        self,
        problem: str,
        *,
        file: str | os.PathLike[str] | None = None,
        field: str | None = None,
        value: Any = _UNSET,
        hint: str | None = None,
    ):
        for rename in _renamings if file else ():
            file = rename(os.fsdecode(file or "")) or file
        self.problem, self.file, self.field, self.hint = problem, file, field, hint
        self.value = value
        # Names come from files: escaped, they can neither control a terminal nor fake further lines.
        parts = (file and os.fsdecode(file), field)
        location = "".join(f"{escape_control(part, keep_breaks=False)}: " for part in parts if part)
        got = "" if value is _UNSET else f" (got {_shorten(value)})"
        period = "" if problem.endswith("?") and not got else "."
        message = f"{problem}{got}{period}" + (f" {hint}" if hint else "")
        super().__init__(location + escape_control(message))


class UsageError(DenseVisionError):
    """A command, call or config with an option that does not exist, is invalid, or has no effect."""

    exit_code = 2


class DataError(DenseVisionError):
    """An image, label or dataset that cannot be used."""

    exit_code = 3


class WeightsError(DenseVisionError):
    """Weights or a model that cannot be loaded, or do not match the request."""

    exit_code = 4


class ExportError(DenseVisionError):
    """An export that failed, or whose outputs differ from those of PyTorch by more than the tolerance."""

    exit_code = 5


def rename_files_in_errors(rename: Callable[[str], str | None]) -> None:
    """Sets how errors name files that have another name for the user; None for all others."""
    if rename not in _renamings:
        _renamings.append(rename)


def convert_error(
    error: DenseVisionError, kind: type[DenseVisionError], file: str | os.PathLike[str]
) -> DenseVisionError:
    """Converts an error to another class, for a file."""
    return kind(error.problem, file=file, field=error.field, value=error.value, hint=error.hint)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Makes a hint that suggests the most similar known name, or lists the known names.

    >>> did_you_mean("detecton", ["detection", "depth"])
    "Did you mean 'detection'?"
    >>> did_you_mean("x", ["a", "b"])
    'Known: a, b.'
    """
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{matches[0]}'?" if matches else f"Known: {', '.join(known)}."


def _shorten(value: Any) -> str:
    text = escape_control(repr(value))
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"
