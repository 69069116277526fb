"""Names: of the splits that shards belong to, and of the files that their samples consist of."""

from __future__ import annotations

import re
from collections.abc import Iterable

from densevision.datasets.splits import SPLIT_NAMES
from densevision.errors import DataError

__all__ = ["fill_template", "find_split", "name_splits"]


def find_split(name: str) -> str | None:
    """The split that the path of a shard states: "train", "val", or the word itself for others ("test").

    >>> find_split("data/validation-00000-of-00002.parquet"), find_split("train/00012.tar"), find_split("part-01.tar")
    ('val', 'train', None)
    """
    folders, _, file = name.rpartition("/")
    words = [re.split(r"[^a-z]", file.lower())[0], *reversed(folders.lower().split("/"))]
    for word in words:
        for split, names in SPLIT_NAMES.items():
            if word in names and word != "test":
                return split
    return "test" if "test" in words else None


def name_splits(shards: Iterable[str]) -> dict[str, str]:
    """Path of each shard -> the folder of its split; "" for all where no shard states one.

    Raises:
        DataError: Some shards state a split and others do not.
    """
    splits = {name: find_split(name) for name in shards}
    found = set(splits.values())
    if found <= {None}:
        return dict.fromkeys(splits, "")
    if None in found:
        name = next(name for name, split in splits.items() if split is None)
        hint = "Begin the names of all shards, or of their folders, with train or val; or those of none."
        raise DataError("the name of a shard states no split, others do", file=name, hint=hint)
    return {name: "val" if split == "test" and "val" not in found else str(split) for name, split in splits.items()}


def fill_template(template: str, split: str, key: str) -> str:
    """The path of a file of a sample.

    >>> fill_template("images/{split}/{key}.jpg", "train", "0001"), fill_template("{split}/{key}.jpg", "", "0001")
    ('images/train/0001.jpg', '0001.jpg')
    """
    path = template.replace("{split}", split).replace("{key}", key)
    return "/".join(part for part in path.split("/") if part)
