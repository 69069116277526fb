"""What NumPy and its archives raise for damaged files."""

from __future__ import annotations

import tokenize
import zipfile
import zlib

__all__ = ["NUMPY_ERRORS"]

NUMPY_ERRORS = (
    *(ValueError, TypeError, OSError, EOFError, OverflowError, RuntimeError, KeyError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""The header of an array is Python text, which may be damaged in as many ways as there are errors."""
