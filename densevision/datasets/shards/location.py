"""Where a dataset can be read on this machine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from densevision.datasets.shards.listing import list_dataset
from densevision.errors import DataError, UsageError
from densevision.run_config import DataConfig

if TYPE_CHECKING:
    from densevision.datasets.shards.stand_in import StandIn

__all__ = ["locate_dataset"]


def locate_dataset(data: DataConfig) -> str:
    """The folder or file that a dataset is read from.

    Folders and files of this machine are read where they are, and so is `scenes`. A dataset in shards (tar, Parquet) or
    in remote storage has a stand-in folder in the cache, which shows its files; see `densevision.io.placeholders`.

    Args:
        data: `path`, and how shards are understood.

    Raises:
        DataError: There are no such shards, one is damaged, or the storage does not respond or refuses.
        UsageError: `data.columns` has no effect, or a package is missing.
    """
    path = data.path or ""
    is_plain = not path or path.split(":")[0] == "scenes"
    listing = None if is_plain else list_dataset(path)
    if listing is None:
        if data.columns:
            hint = "It names the parts of samples in .tar and .parquet files; leave it out."
            raise UsageError("has no effect without shards", field="data.columns", file=path or None, hint=hint)
        return path
    from densevision.datasets.shards.entries import list_entries
    from densevision.datasets.shards.stand_in import open_stand_in

    def list_all() -> StandIn:
        return list_entries(listing, data.columns or {}, data.on_error)

    options = json.dumps(data.columns), data.on_error == "fail"
    try:
        return os.fspath(open_stand_in(listing, int(data.cache_size * 1e9), list_all, *options))
    except OSError as error:
        hint = "Free disk space, or set DENSEVISION_CACHE to another folder."
        raise DataError(f"the cache cannot be written: {error.strerror}", file=path, hint=hint) from None
