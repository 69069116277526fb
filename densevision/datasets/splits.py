"""The splits of a dataset by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from densevision.errors import DataError

S = TypeVar("S")


def source_of(splits: Mapping[str, S], split: str, path: str | Path | None) -> S:
    """Where a split comes from.

    Args:
        splits: What was found at the path.
        split: "train" or "val".
        path: The dataset.

    Raises:
        DataError: It has no such split.
    """
    if split not in splits:
        hint = f"The dataset has only: {', '.join(splits)}. Name a file or folder as data.{split}."
        raise DataError(f"there is no {split} split", file=path, field=f"data.{split}", hint=hint)
    return splits[split]
