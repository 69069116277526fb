"""The folder for what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["get_cache_folder"]


def get_cache_folder() -> Path:
    """Folder of downloads, engines, stand-ins and dataset indexes: $DENSEVISION_CACHE, or ~/.cache/densevision."""
    return Path(os.environ.get("DENSEVISION_CACHE", Path.home() / ".cache" / "densevision"))
