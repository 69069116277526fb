"""Lets whoever opens a large dataset see how far it is; by default nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
Progress = Callable[[Iterable[Any], str], Iterable[Any]]

MANY = 2000
"""Fewer things are read at once, and need no bar."""

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress_context(progress: Progress) -> Iterator[None]:
    """Within the block, long readings draw this bar: a function from things and a title to the same things."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def monitored(things: Sequence[T], title: str) -> Iterable[T]:
    """The things, behind a bar where there are many of them and somebody watches."""
    progress = _progress.get()
    return things if progress is None or len(things) < MANY else progress(things, title)
