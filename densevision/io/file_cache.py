"""Memory for what was read from files, as long as the files do not change."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

__all__ = ["cache_by_file", "read_state"]

T = TypeVar("T")


def read_state(file: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Time and size, by which a changed file is known; None if it cannot be found."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def cache_by_file(maxsize: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Caches a function by its arguments, and by time and size of the file that its first argument names.

    A file that cannot be found is not cached.
    """

    def decorate(read: Callable[..., T]) -> Callable[..., T]:
        @lru_cache(maxsize)
        def read_unchanged(state: tuple[int, int], *arguments: Any) -> T:
            return read(*arguments)

        @wraps(read)
        def cached(file: Any, *arguments: Any) -> T:
            state = read_state(file)
            return read(file, *arguments) if state is None else read_unchanged(state, file, *arguments)

        return cached

    return decorate
