"""The options that a study searches, and their ranges. Imports neither torch nor optuna."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from densevision.errors import UsageError, did_you_mean

__all__ = ["DEFAULT_SPACE", "Choices", "Range", "parse_space"]

DEFAULT_SPACE: dict[str, Any] = {
    "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "train.weight_decay": {"low": 1e-4, "high": 0.2, "log": True},
    "train.warmup_epochs": {"low": 0.0, "high": 3.0},
}
"""What is searched where no space is given: what every task and architecture has."""
KEYS = ("low", "high", "log", "step")
HINT = "Write {low: 1e-4, high: 1e-2, log: true}, {low: 32, high: 128, step: 32} or [adamw, sgd]."


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; integers where both are.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether to search the logarithm.
        step: Distance of the values; any value where it is None.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choices:
    """A list of values.

    Attributes:
        labels: One text or plain value per choice, which a study can store.
        values: The values of the option.
    """

    labels: tuple[Any, ...]
    values: tuple[Any, ...]


def parse_space(space: Mapping[str, Any]) -> dict[str, Range | Choices]:
    """Validates a search space.

    Args:
        space: Dotted names of options to a range, `{"low", "high"}` with optional `"log"` and `"step"` (the words of
            Optuna), or to a list of choices.

    Raises:
        UsageError: An entry is neither, or a range is empty.
    """
    if not space:
        raise UsageError("there is nothing to search", field="tune", hint=HINT)
    return {str(name): _parse_entry(f"tune.{name}", entry) for name, entry in space.items()}


def _parse_entry(field: str, entry: Any) -> Range | Choices:
    if isinstance(entry, (list, tuple)):
        values = tuple(entry)
        labels = tuple(each if _is_scalar(each) else json.dumps(each, sort_keys=True) for each in values)
        if len(set(map(repr, labels))) < max(2, len(labels)):
            raise UsageError("needs two or more different choices", field=field, value=entry, hint=HINT)
        return Choices(labels, values)
    if not isinstance(entry, Mapping):
        raise UsageError("is neither a range nor a list of choices", field=field, value=entry, hint=HINT)
    for key in entry:
        if key not in KEYS:
            raise UsageError("no such key of a range", field=field, value=key, hint=did_you_mean(str(key), KEYS))
    for key in ("low", "high"):
        if not _is_number(entry.get(key)):
            raise UsageError(f"{key} is not a number", field=field, value=entry.get(key), hint=HINT)
    step, log = entry.get("step"), entry.get("log", False)
    parsed = Range(entry["low"], entry["high"], log, step)
    if not isinstance(log, bool):
        raise UsageError("log is neither true nor false", field=field, value=log)
    if parsed.low >= parsed.high:
        raise UsageError("low is not below high", field=field, value=entry)
    if log and (parsed.low <= 0 or step is not None):
        raise UsageError("a logarithmic range needs a low above 0, and no step", field=field, value=entry)
    if step is not None and (not _is_number(step) or step <= 0 or (parsed.is_integer and not isinstance(step, int))):
        raise UsageError("is not a step of this range", field=field, value=step)
    return parsed


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
