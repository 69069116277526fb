"""The next item of an iterator is computed while the caller works on this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

__all__ = ["read_ahead"]

T = TypeVar("T")

_END = object()


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields the items in their order; a thread computes one item ahead, so that two are in memory.

    An exception is raised where its item would be. When the caller stops, the item in work is finished first, and the
    iterator is closed.
    """
    iterator = iter(items)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:
            future = thread.submit(next, iterator, _END)
            while (item := future.result()) is not _END:
                future = thread.submit(next, iterator, _END)
                yield cast(T, item)
    finally:  # the thread has ended
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
