"""Bars on whatever takes long; a bar is a function from an iterable to the same iterable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[Iterable[T], str], Iterable[T]]


def silent(items: Iterable[T], title: str) -> Iterable[T]:
    """No bar."""
    return items


def bar(items: Iterable[T], title: str) -> Iterator[T]:
    """A bar on the standard error, gone when done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = len(items) if hasattr(items, "__len__") else None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=title)
