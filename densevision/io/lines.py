"""Text files as lines and numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from densevision.errors import DataError

__all__ = ["parse_decimal", "parse_decimals", "read_lines"]


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Reads the lines of a UTF-8 text file; invalid bytes become replacement characters.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig", "replace").splitlines()
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None


def parse_decimal(text: str) -> float:
    """Converts a number as every program writes it; Python's `float` also takes `1_0` and digits of other scripts.

    >>> parse_decimal(" 1e-2 ")
    0.01

    Raises:
        ValueError: The text is no such number.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"not a decimal number: {text!r}")
    return float(text)


def parse_decimals(texts: Iterable[str]) -> list[float]:
    """Converts several numbers; see `parse_decimal`."""
    return [parse_decimal(text) for text in texts]
