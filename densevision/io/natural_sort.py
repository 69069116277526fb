"""The order of files whose names are numbered."""

from __future__ import annotations

import os
import re


def natural_key(path: str | os.PathLike[str]) -> tuple[list[str | int], str]:
    """A key that sorts names as a person counts: the numbers in them are compared as numbers.

    >>> sorted(["frame10.png", "frame2.png", "frame1.png"], key=by_number)
    ['frame1.png', 'frame2.png', 'frame10.png']
    """
    name = os.fspath(path)
    # Words and numbers take turns, so that two keys never compare one with the other.
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
