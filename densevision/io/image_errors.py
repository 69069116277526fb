"""Errors of image files."""

from __future__ import annotations

from densevision.errors import DataError

__all__ = ["CorruptImageError"]


class CorruptImageError(DataError):
    """A file that begins as an image and cannot be decoded to its end."""
