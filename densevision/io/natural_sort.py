"""Natural sorting: numbers in file names are compared as numbers."""

from __future__ import annotations

import os
import re

__all__ = ["natural_sort_key"]


def natural_sort_key(path: str | os.PathLike[str]) -> tuple[list[str | int], str]:
    """A sort key that compares the numbers in names by value.

    >>> sorted(["frame10.png", "frame2.png", "frame1.png"], key=natural_sort_key)
    ['frame1.png', 'frame2.png', 'frame10.png']
    """
    name = os.fspath(path)
    # Text and numbers alternate, so that a number is never compared with text.
    parts = re.split(r"(\d+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
