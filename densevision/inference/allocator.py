"""The memory allocator of glibc: how long it keeps what was freed. Nothing is done with other C libraries."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_all_freed_memory", "keep_freed_memory", "release_freed_memory"]

log = logging.getLogger(__name__)

LARGEST_KEPT = 32 << 20
"""Bytes of the largest block that is kept; every release of glibc accepts this many."""
MAX_KEPT = 128 << 20
"""Bytes that are kept at most at the end of the heap."""
MOST_KEPT = (1 << 31) - 1
"""The largest number that `mallopt` takes."""
DEFAULT_MAX_MAPPED = 65536
"""Blocks outside the heap, of which glibc allows so many by default."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Environment variables by which a user has chosen already."""


@functools.cache
def keep_freed_memory() -> bool:
    """Lets glibc keep up to 128 MB that were freed, for this process; returns whether it does.

    By default glibc returns the maps between the layers of a network to the system, and the system clears the same
    pages again for the next layer: a tenth to a fifth of the time of a prediction on the CPU. Nothing is done where the
    environment configures the allocator.
    """
    if any(os.environ.get(name) for name in _SETTINGS):
        return False
    return _set_options({_M_MMAP_THRESHOLD: LARGEST_KEPT, _M_TRIM_THRESHOLD: MAX_KEPT})


@contextmanager
def keep_all_freed_memory() -> Iterator[None]:
    """Lets glibc keep all memory that is freed inside, for the next step of a training; afterwards it is returned.

    A step allocates the same maps again and again, most of them larger than the 32 MB up to which glibc reuses blocks
    otherwise: a quarter of the time of a step in bfloat16 and two fifths in float32 were pages that the system cleared.
    Blocks that lie in one heap leave gaps, which took 9 and 13% more memory.
    """
    if not keep_freed_memory():
        yield
        return
    _set_options({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: MOST_KEPT})
    try:
        yield
    finally:
        _set_options({_M_MMAP_MAX: DEFAULT_MAX_MAPPED, _M_TRIM_THRESHOLD: MAX_KEPT})
        release_freed_memory()


def release_freed_memory() -> None:
    """Returns memory that was freed to the system.

    glibc keeps freed blocks of up to 32 MB. Maps of tiles have about this size, and the gaps between those of different
    sizes add up to more than a tile needs.
    """
    glibc = _open_glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _set_options(options: dict[int, int]) -> bool:
    glibc = _open_glibc()
    if glibc is None:
        return False
    is_set = all(glibc.mallopt(option, value) for option, value in options.items())
    if not is_set:
        log.info("the allocator returns freed memory at once: it refused other thresholds")
    return is_set


@functools.cache
def _open_glibc() -> ctypes.CDLL | None:
    is_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}) and os.confstr("CS_GNU_LIBC_VERSION")
    return ctypes.CDLL(None) if is_glibc else None
