"""Progress bars: functions from an iterable and a title to the same items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from importlib.util import find_spec
from typing import Any, TypeVar

from densevision.escaping import escape_control

__all__ = ["Progress", "hide_progress", "make_bar", "show_progress"]

T = TypeVar("T")
Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def hide_progress(items: Iterable[T], title: str) -> Iterable[T]:
    """Yields the items without a bar."""
    return items


def show_progress(items: Iterable[T], title: str) -> Iterator[T]:
    """Yields the items behind a bar on the standard error stream, which disappears at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = len(items) if isinstance(items, Sized) else None
    with make_bar(*columns) as progress:
        yield from progress.track(items, total=total, description=escape_control(title))


def make_bar(*columns: Any) -> Any:
    """A `rich` progress bar on the standard error stream, which disappears at the end.

    Pipes and files, which cannot show it, get nothing; neither do notebooks without ipywidgets (extra `notebook`).

    Args:
        *columns: Columns of `rich.progress`.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_visible = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return Progress(*columns, console=console, transient=True, disable=not is_visible)
