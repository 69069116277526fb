"""Memory for what was read from files, as long as the files do not change."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["cache_by_file"]

T = TypeVar("T")


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
            try:
                status = Path(file).stat()
            except OSError:
                return read(file, *arguments)
            return read_unchanged((status.st_mtime_ns, status.st_size), file, *arguments)

        return cached

    return decorate
