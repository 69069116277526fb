"""Splits of a dataset: their folder names, the held-out validation part, and `scenes[:COUNT[:SEED]]`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import TypeVar

import numpy as np

from densevision.errors import DataError, UsageError

__all__ = [
    "FIRST_VALIDATION_SCENE",
    "HOLD_OUT_NOTE",
    "SPLIT_NAMES",
    "SceneSource",
    "get_split",
    "hold_out",
    "hold_out_groups",
    "parse_scene_splits",
    "select_split",
]

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""Split -> folder names that mean it, in order of preference."""
HOLD_OUT_NOTE = "there is no validation split: a tenth of the images, chosen by a hash of their names, is held out"
HOLD_OUT_DIVISOR = 10
"""Without a validation split, one image in this many is held out for validation."""
FIRST_VALIDATION_SCENE = 1 << 30
"""Number of the first validation scene, far beyond any training scene."""

S = TypeVar("S")


@dataclass(frozen=True)
class SceneSource:
    """Procedural scenes: `count` scenes of the sequence `seed`, from number `first`."""

    count: int
    seed: int
    first: int = 0


def get_split(splits: Mapping[str, S], split: str, path: str | Path | None) -> S:
    """Returns the source of a split.

    Args:
        splits: Split name -> source, as detected at the path.
        split: "train" or "val".
        path: The dataset, for the error message.

    Raises:
        DataError: The dataset has no such split.
    """
    if split not in splits:
        hint = f"The dataset has only: {', '.join(splits)}. Name a file or folder as data.{split}."
        raise DataError(f"there is no {split} split", file=path, field=f"data.{split}", hint=hint)
    return splits[split]


def hold_out(names: Iterable[str]) -> np.ndarray:
    """Selects a tenth of the images, at least one, for validation by a hash of their file names.

    The selection does not depend on the order of the names and hardly changes when images are added.

    Args:
        names: Paths of n images; only the file name counts.

    Returns:
        (n,) bool, True for validation images.
    """
    file_names = (os.path.basename(name).encode("utf-8", "surrogatepass") for name in names)
    digests = [md5(name, usedforsecurity=False).digest() for name in file_names]
    count = -(-len(digests) // HOLD_OUT_DIVISOR)
    mask = np.zeros(len(digests), bool)
    mask[sorted(range(len(digests)), key=digests.__getitem__)[:count]] = True
    return mask


def hold_out_groups(groups: Iterable[str]) -> set[str]:
    """Selects a tenth of the groups (sequences, scenes), at least one, for validation by a hash of their names."""
    names = sorted(set(groups))
    return {name for name, is_held_out in zip(names, hold_out(names)) if is_held_out}


def select_split(names: Iterable[str], split: str) -> np.ndarray:
    """Selects the images of a split of a dataset that has no validation split of its own.

    Args:
        names: Paths of n images. A single image belongs to both splits.
        split: "train" or "val".

    Returns:
        (n,) bool.
    """
    mask = hold_out(names)
    return mask if split == "val" or len(mask) == 1 else ~mask


def parse_scene_splits(path: str) -> dict[str, SceneSource] | None:
    """Parses `scenes[:COUNT[:SEED]]`; None for any other path. A folder of that name is given as `./scenes`.

    The number of validation scenes is a fifth of the training scenes, at least 16 and at most 200.

    >>> parse_scene_splits("scenes:100:7")["val"].count
    20

    Raises:
        UsageError: The count or the seed is not a number, or the count is 0.
    """
    if path.split(":")[0] != "scenes":
        return None
    numbers = re.fullmatch(r"scenes(?::(\d+))?(?::(\d+))?", path)
    count, seed = (int(numbers[1] or 1000), int(numbers[2] or 0)) if numbers else (0, 0)
    if count < 1:
        hint = "Try scenes:1000:0."
        raise UsageError("is not scenes[:COUNT[:SEED]]", field="data.path", value=path, hint=hint)
    return {
        "train": SceneSource(count, seed),
        "val": SceneSource(min(200, max(16, count // 5)), seed, FIRST_VALIDATION_SCENE),
    }
