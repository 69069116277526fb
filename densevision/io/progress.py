"""Progress bars of long reads: a caller installs a bar for a block, and readers report to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["MIN_ITEMS", "Progress", "progress_context", "track_progress"]

T = TypeVar("T")
Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""A function from items and a title to the same items, which draws a bar while they are iterated over."""

MIN_ITEMS = 2000
"""Number of items from which a bar is shown."""

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress_context(progress: Progress) -> Iterator[None]:
    """Within the block, `track_progress` draws bars with `progress`."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def track_progress(items: Sequence[T], title: str) -> Iterable[T]:
    """Iterates over items with a bar, if there are at least `MIN_ITEMS` and a bar is installed."""
    progress = _progress.get()
    return items if progress is None or len(items) < MIN_ITEMS else progress(items, title)
