"""Which splits of a dataset are checked, and their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from densevision.datasets.checks import catalog
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import parse_scene_splits
from densevision.errors import DataError
from densevision.run_config import DataConfig

__all__ = ["list_file_splits", "list_split_files"]

T = TypeVar("T")


def list_file_splits(data: DataConfig, context: CheckContext) -> tuple[str, ...]:
    """The splits whose files are to be checked: none of procedural scenes, whose number is counted instead."""
    scenes = parse_scene_splits(data.path or "")
    if scenes is None:
        return "train", "val"
    for split, source in scenes.items():
        context.set_counts(split, scenes=source.count)
    return ()


def list_split_files(
    data: DataConfig, split: str, list_files: Callable[[], tuple[list[T], Sequence[str]]], context: CheckContext
) -> list[T]:
    """The files of a split; one that the dataset does not have is reported.

    Args:
        data: Where the dataset is.
        split: "train" or "val".
        list_files: Lists the files, with notes on how they were chosen.
        context: Takes the notes.

    Raises:
        DataError: The dataset is no folder, or has no split of the name that the config gives.
    """
    try:
        files, notes = list_files()
    except DataError as error:
        if getattr(data, split) is not None or not Path(locate_dataset(data)).is_dir():
            raise
        context.add(catalog.SPLIT_MISSING, data.path or "", split, error.problem)
        return []
    context.notes += notes
    return files
