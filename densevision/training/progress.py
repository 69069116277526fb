"""What a training run prints: a bar over the batches with the loss, and a line after each epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from densevision.escaping import escape_control
from densevision.inference.progress import Progress, hide_progress, make_bar, show_progress

__all__ = ["TrainingProgress", "format_duration"]


class TrainingProgress:
    """Prints the progress of a run to the standard error stream.

    Args:
        epochs: Number of epochs of the run.
        quiet: Print nothing.
    """

    def __init__(self, epochs: int, quiet: bool = False):
        self.epochs, self.quiet = epochs, quiet
        self._best = ""
        self.start(0)

    def start(self, finished_epochs: int) -> None:
        """Starts the clock; a resumed run has finished some epochs before."""
        self._first_epoch, self._start = finished_epochs, time.monotonic()

    @property
    def bar(self) -> Progress:
        """The bar of other long operations of the run, such as validation."""
        return hide_progress if self.quiet else show_progress

    @contextmanager
    def track_epoch(self, epoch: int, steps: int) -> Iterator[Callable[[float], None]]:
        """Shows a bar over the steps of an epoch (from 0); call the yielded function with the loss of each step."""
        if self.quiet:
            yield lambda loss: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        text, loss_text = TextColumn("{task.description}"), TextColumn("loss {task.fields[loss]:.4g}")
        best = TextColumn(self._best, markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), loss_text, best, TimeRemainingColumn())
        with make_bar(*columns) as progress:
            task = progress.add_task(f"epoch {epoch + 1}/{self.epochs}", total=steps, loss=float("nan"))
            yield lambda loss: progress.update(task, advance=1, loss=loss)

    def report_epoch(
        self, epoch: int, loss: float, metric: tuple[str, float] | None, best: tuple[float, int] | None
    ) -> None:
        """Prints the line of a finished epoch.

        Args:
            epoch: The epoch, from 0.
            loss: Mean training loss.
            metric: Name and value of the monitored metric, where the epoch was validated.
            best: Best value of the metric so far, and its epoch from 0.
        """
        values = {"loss": loss} if metric is None else {"loss": loss, metric[0]: metric[1]}
        parts = [_format_values(values)]
        if metric is not None and best is not None:
            parts.append(f"best {best[0]:.4g} in epoch {best[1] + 1}")
            self._best = f"best {metric[0]} {best[0]:.4g}"
        finished = epoch + 1 - self._first_epoch
        left = (time.monotonic() - self._start) / finished * (self.epochs - epoch - 1)
        if left > 0:
            parts.append(f"{format_duration(left)} left")
        self.print(f"epoch {epoch + 1}/{self.epochs}: {', '.join(parts)}")

    def print(self, line: str) -> None:
        """Prints a line, unless quiet."""
        if not self.quiet:
            print(escape_control(line), file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Formats a duration with one or two units.

    >>> format_duration(42.4), format_duration(600), format_duration(5000)
    ('42 s', '10 min', '1 h 23 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _format_values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
