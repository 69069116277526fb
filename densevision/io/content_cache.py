"""A cache of file contents on disk, of bounded size; processes share it.

Each content is one file, named by a hash of where it comes from, which appears whole or not at all. Reading one sets
its time; where the cache would exceed its size, those that were read the longest ago leave.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from densevision.errors import DataError

__all__ = ["ContentCache", "make_key"]

FREED = 0.1
"""Fraction of the cache that is freed at a time, so that not every new file looks through all others."""


def make_key(*origin: object) -> str:
    """A name for a content, from everything that determines it: address, version, position."""
    return hashlib.sha256("\0".join(map(str, origin)).encode("utf-8", "surrogatepass")).hexdigest()[:40]


class ContentCache:
    """The cache in a folder.

    Args:
        folder: Holds the cache.
        limit: Its size in bytes, which the files never exceed.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit

    def get(self, key: str) -> bytes | None:
        """Reads a content; None if it is not there."""
        file = self._locate(key)
        try:
            content = file.read_bytes()
            os.utime(file)
        except OSError:  # absent, or another process removed it just now
            return None
        return content

    def put(self, key: str, content: bytes) -> None:
        """Adds a content, unless it is larger than the cache.

        Raises:
            DataError: The folder cannot be written to, or the disk is full.
        """
        if len(content) > self.limit:
            return
        file = self._locate(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with self.lock("size"):
                if file.exists():
                    return
                self._make_room(len(content))
                # The time is set on reading, so no `fsync`: a cache may lose its newest files in a power cut, and one
                # that was cut short is told by its name not yet being final.
                handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".new-")
                try:
                    with os.fdopen(handle, "wb") as stream:
                        stream.write(content)
                    os.replace(temporary, file)
                except BaseException:
                    os.unlink(temporary)
                    raise
        except OSError as error:
            hint = "Free disk space, lower data.cache_size, or set DENSEVISION_CACHE to another folder."
            raise DataError(f"the cache cannot be written: {error.strerror}", file=self.folder, hint=hint) from None

    def lock(self, name: str) -> FileLock:
        """A lock that processes share."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f"{name}.lock")

    def measure(self) -> int:
        """Size of all files in bytes."""
        return sum(status.st_size for _, status in self._list())

    def _locate(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def _list(self) -> Iterator[tuple[str, os.stat_result]]:
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        yield entry.path, entry.stat()
                    except FileNotFoundError:
                        continue

    def _make_room(self, size: int) -> None:
        """Counts the new bytes; removes the files that were read the longest ago if they would not fit."""
        counter = self.folder / "size.txt"
        try:
            total = int(counter.read_text())
        except (OSError, ValueError):  # a new cache, or a counter that a killed process left behind
            total = self.measure()
        if total + size > self.limit:
            files = sorted(self._list(), key=lambda item: item[1].st_mtime_ns)
            total = sum(status.st_size for _, status in files)
            for path, status in files:
                if total + size <= self.limit * (1 - FREED) or total == 0:
                    break
                os.unlink(path)
                total -= status.st_size
        temporary = counter.with_suffix(".new")
        temporary.write_text(str(total + size))
        os.replace(temporary, counter)
