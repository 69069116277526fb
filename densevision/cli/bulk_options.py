"""Options of `predict` and `evaluate` that belong to `--engine ray`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["bulk_options", "take_ray_options", "worker_options"]

Function = TypeVar("Function", bound=Callable[..., Any])

_NAMES = ("workers", "gpus_per_worker", "rows_per_file", "column")
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    help="With --engine ray: copies of the model. [default: one per GPU share, or per core without GPUs]",
)
_GPUS = click.option(
    "--gpus-per-worker",
    type=click.FloatRange(0),
    help="With --engine ray: GPUs of each copy, also a fraction. [default: 1 where the cluster has any]",
)
_ROWS = click.option(
    "--rows-per-file",
    type=click.IntRange(1),
    help="With --engine ray: predictions in a parquet file. [default: 500, for maps of all pixels 50]",
)
_COLUMN = click.option(
    "--column",
    metavar="NAME",
    help="With --engine ray: column of the images in parquet tables. [default: found by name]",
)


def worker_options(function: Function) -> Function:
    """Adds `--workers` and `--gpus-per-worker`."""
    return _WORKERS(_GPUS(function))


def bulk_options(function: Function) -> Function:
    """Adds the options of bulk prediction, but for `--timeout`, which streams have, too."""
    return worker_options(_ROWS(_COLUMN(function)))


def take_ray_options(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of Ray out of those of a command, and returns the ones that were typed.

    Raises:
        click.UsageError: One of them was typed with another engine.
    """
    names = (*_NAMES, "timeout") if options["engine"] == "ray" else _NAMES
    taken = {name: options.pop(name) for name in names if name in options}
    given = {name: value for name, value in taken.items() if value is not None}
    if given and options["engine"] != "ray":
        flag = f"--{next(iter(given)).replace('_', '-')}"
        raise click.UsageError(f"{flag} has no effect without --engine ray.")
    return given
