"""JSON as this package writes it: numbers that are not finite become null, text stays readable Unicode."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from densevision.io.atomic_write import write_text

__all__ = ["dump_json", "to_json_value", "write_json"]


def to_json_value(value: Any) -> Any:
    """A copy of nested values that JSON can hold: NaN and infinities are None, keys are strings, tuples are lists.

    Arrays and scalars of NumPy and PyTorch become lists and plain numbers.

    >>> to_json_value({"AP": float("nan"), 1: (0.5, float("inf"))})
    {'AP': None, '1': [0.5, None]}
    """
    if isinstance(value, dict):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item) for item in value]
    if hasattr(value, "tolist"):
        plain = value.tolist()
        is_finite = isinstance(value, np.ndarray) and (value.dtype.kind in "biuS" or np.isfinite(value).all())
        return plain if is_finite else to_json_value(plain)  # large finite arrays need no second pass
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dump_json(value: Any, indent: int | None = None) -> str:
    """The JSON text of nested values; see `to_json_value`."""
    return json.dumps(to_json_value(value), allow_nan=False, ensure_ascii=False, indent=indent)


def write_json(path: Path, value: Any) -> None:
    """Writes nested values as indented JSON, atomically; see `to_json_value`.

    Raises:
        DenseVisionError: The file cannot be written.
    """
    write_text(path, dump_json(value, indent=1) + "\n")
