"""Arrays that were computed from files, kept in the cache folder until the files change.

An index is an .npz file of numbers, written whole or not at all and read without pickle. It states what it was
computed from; it is rebuilt where that has changed, or where the checksums of the archive show damage.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DenseVisionError
from densevision.io.atomic_write import atomic_write
from densevision.io.cache_folder import get_cache_folder

__all__ = ["get_index_folder", "read_index", "write_index"]

MAX_FOLDER_BYTES = 2 << 30
"""The indexes that were not used for the longest time are removed beyond this total."""
_KEY = "key"
_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What zipfile and NumPy raise on missing and damaged files."""

log = logging.getLogger(__name__)


def get_index_folder() -> Path:
    """The folder of the indexes."""
    return get_cache_folder() / "indexes"


def read_index(subject: str, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Reads an index.

    Args:
        subject: What the index is of, such as a kind and a path; there is one index per subject.
        key: What it depends on, such as size and time of a file and the version of its reader; JSON values.

    Returns:
        The arrays; None if there is no index, it was computed from something else, or it is damaged.
    """
    path = _locate(subject)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # compares all checksums
                return None
        with np.load(path, allow_pickle=False) as arrays:
            if json.loads(arrays[_KEY].tobytes()) != _with_subject(subject, key):
                return None
            content = {name: arrays[name] for name in arrays.files if name != _KEY}
        os.utime(path)
    except _READ_ERRORS:
        return None
    return content


def write_index(subject: str, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an index; a folder that cannot be written to is reported as a warning in the log.

    Args:
        subject, key: As in `read_index`.
        arrays: Arrays of numbers.
    """
    text = json.dumps(_with_subject(subject, key)).encode()
    path = _locate(subject)
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, allow_pickle=False, **{_KEY: np.frombuffer(text, np.uint8)}, **arrays)
        _remove_unused(path)
    except (OSError, DenseVisionError) as failure:
        log.warning("the dataset is read again next time, its index is not kept: %s", failure)


def _with_subject(subject: str, key: Mapping[str, Any]) -> dict[str, Any]:
    return {**key, "subject": subject}


def _locate(subject: str) -> Path:
    digest = hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return get_index_folder() / f"{digest}.npz"


def _remove_unused(kept: Path) -> None:
    """Removes the indexes that were not used for the longest time, beyond `MAX_FOLDER_BYTES` in total."""
    states = {path: path.stat() for path in kept.parent.glob("*.npz")}
    total = 0
    for path in sorted(states, key=lambda path: states[path].st_mtime, reverse=True):
        total += states[path].st_size
        if total > MAX_FOLDER_BYTES and path != kept:
            path.unlink(missing_ok=True)
