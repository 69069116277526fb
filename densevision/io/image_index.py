"""The sizes of the images of a large dataset, kept in the cache folder until the files change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from densevision.io.array_index import read_index, write_index
from densevision.io.box_table import StringArray
from densevision.io.header_scan import ScannedImage, scan_image

__all__ = ["MIN_INDEXED_IMAGES", "ImageIndex"]

MIN_INDEXED_IMAGES = 2000
"""Smaller datasets are read in a moment."""
VERSION = 1
"""Changes with the meaning of the array, and with what `scan_image` accepts."""
UNKNOWN = ScannedImage(0, 0, 0, 0)
"""Row of an image that is not in the index."""


class ImageIndex:
    """Heights and widths of listed images whose headers and ends are as usual; others are not in the index.

    Args:
        files: n images relative to `folder`.
        folder: The folder of the images.
    """

    def __init__(self, files: StringArray, folder: Path):
        self.root, self.is_kept, self.is_changed = os.path.join(folder, ""), len(files) >= MIN_INDEXED_IMAGES, False
        self.known: list[ScannedImage | None] = [None] * len(files)
        if self.is_kept:
            names = hashlib.blake2b(files.blob.tobytes() + files.offsets.tobytes(), digest_size=16).hexdigest()
            self.subject, self.key = f"images {os.path.abspath(folder)} {names}", {"version": VERSION}
            self.known = self._read(len(files)) or self.known

    def measure(self, row: int, name: str) -> tuple[int, int] | None:
        """Returns the upright (height, width) of an image, from the index if the file is unchanged.

        Args:
            row: Place of the image among the files.
            name: Its name.

        Returns:
            None for images that are missing, unusual or damaged, which must be read with care.
        """
        path, known = self.root + name, self.known[row]
        if known is not None:
            try:
                status = os.stat(path)
            except (OSError, ValueError):
                return None
            if known.modified == status.st_mtime_ns and known.bytes == status.st_size:
                return known[:2]
        image = scan_image(path)
        if self.is_kept and image != known:
            self.known[row], self.is_changed = image, True
        return None if image is None else image[:2]

    def save(self) -> None:
        """Writes the index if it has changed."""
        if self.is_changed:
            images = np.array([image or UNKNOWN for image in self.known], np.int64)
            write_index(self.subject, self.key, {"images": images})
            self.is_changed = False

    def _read(self, count: int) -> list[ScannedImage | None] | None:
        """Reads the index; None if there is none for as many images."""
        images = (read_index(self.subject, self.key) or {}).get("images")
        if images is None or images.shape != (count, len(UNKNOWN)) or images.dtype != np.int64:
            return None
        return [ScannedImage(*row) if row[0] else None for row in images.tolist()]
