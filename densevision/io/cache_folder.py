"""The folder for what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["find_cache_path", "get_cache_folder"]


def find_cache_path() -> str:
    """Path of the folder of downloads, engines, stand-ins and dataset indexes: $DENSEVISION_CACHE, or in the home."""
    return os.environ.get("DENSEVISION_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "densevision")


def get_cache_folder() -> Path:
    """The folder of `find_cache_path`."""
    return Path(find_cache_path())
