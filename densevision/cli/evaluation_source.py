"""What `analyze` and `compare` look into: prediction files beside ground truth, or weights on a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from densevision.cli.options import quiet_flag, set_option

__all__ = ["evaluation_source_options"]

Function = TypeVar("Function", bound=Callable[..., Any])


def evaluation_source_options(function: Function) -> Function:
    """Adds the options that say what is evaluated on what."""
    for option in (
        quiet_flag,
        set_option,
        click.option("--split", type=click.Choice(["train", "val"]), help="With --data. [default: val]"),
        click.option("--data", metavar="PATH", help="A dataset: evaluate weights on it."),
        click.option(
            "--on-error",
            type=click.Choice(["fail", "skip"]),
            help="With --truth: stop at files that cannot be read or compared, or skip and report them. "
            "[default: fail]",
        ),
        click.option("--images", metavar="FOLDER", help="With --truth: the images, to draw on."),
        click.option("--truth", metavar="PATH", help="Ground-truth files: score prediction files against them."),
    ):
        function = option(function)
    return function
