"""Text files as lines."""

from __future__ import annotations

import os
from pathlib import Path

from densevision.errors import DataError

__all__ = ["read_lines"]


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Reads the lines of a UTF-8 text file; invalid bytes become replacement characters.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig", "replace").splitlines()
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None
