"""The memory allocator of glibc: how long it keeps what was freed. Nothing is done with other C libraries."""

from __future__ import annotations

import ctypes
import functools
import logging
import os

__all__ = ["keep_freed_memory", "release_freed_memory"]

log = logging.getLogger(__name__)

LARGEST_KEPT = 32 << 20
"""Bytes of the largest block that is kept; every release of glibc accepts this many."""
MAX_KEPT = 128 << 20
"""Bytes that are kept at most at the end of the heap."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Environment variables by which a user has chosen already."""


@functools.cache
def keep_freed_memory() -> bool:
    """Lets glibc keep up to 128 MB that were freed, for this process; returns whether it does.

    By default glibc returns the maps between the layers of a network to the system, and the system clears the same
    pages again for the next layer: a tenth to a fifth of the time of a prediction on the CPU. Nothing is done where the
    environment configures the allocator.
    """
    glibc = _open_glibc()
    if glibc is None or any(os.environ.get(name) for name in _SETTINGS):
        return False
    set_option = glibc.mallopt
    is_set = all([set_option(_M_MMAP_THRESHOLD, LARGEST_KEPT), set_option(_M_TRIM_THRESHOLD, MAX_KEPT)])
    if not is_set:
        log.info("the allocator returns freed memory at once: it refused other thresholds")
    return is_set


def release_freed_memory() -> None:
    """Returns memory that was freed to the system.

    glibc keeps freed blocks of up to 32 MB. Maps of tiles have about this size, and the gaps between those of different
    sizes add up to more than a tile needs.
    """
    glibc = _open_glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@functools.cache
def _open_glibc() -> ctypes.CDLL | None:
    is_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}) and os.confstr("CS_GNU_LIBC_VERSION")
    return ctypes.CDLL(None) if is_glibc else None
