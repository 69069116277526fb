"""A web page to predict, compare weights, and look at runs and datasets. Needs the extra app."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from densevision.app.options import AppOptions
from densevision.optional_packages import check_extra

__all__ = ["AppOptions", "build_app", "launch"]

PACKAGES = ("gradio", "fastapi", "uvicorn", "python_multipart")
"""Modules of the extra `app`."""
DRAIN_SECONDS = 2
"""Time for open requests when the page ends; each open page keeps one."""


def build_app(
    *,
    weights: Sequence[Any] = (),
    runs: Sequence[Any] = (),
    data: Sequence[Any] = (),
    options: AppOptions | None = None,
) -> Any:
    """Builds the page as an ASGI application, behind the guard that checks token, host name and sizes.

    Args:
        weights: Weights files, exported models or names that the page offers, besides the bundled ones.
        runs: Run folders that the page offers.
        data: Datasets that the page offers, as `train` takes them.
        options: Address, limits and token.

    Returns:
        An ASGI application, for example for uvicorn.

    Raises:
        UsageError: The host needs a token, a folder holds no run, or gradio is not installed.
        WeightsError: Weights cannot be read.
    """
    check_extra("app", PACKAGES, "the page")
    from densevision.app.application import build

    return build(weights, runs, data, options or AppOptions())


def launch(
    *,
    weights: Sequence[Any] = (),
    runs: Sequence[Any] = (),
    data: Sequence[Any] = (),
    options: AppOptions | None = None,
    on_start: Callable[[str], None] = print,
) -> None:
    """Serves the page until SIGTERM or Ctrl-C; the arguments are those of `build_app`.

    Args:
        weights: Weights that the page offers.
        runs: Run folders that it offers.
        data: Datasets that it offers.
        options: Address, limits and token.
        on_start: Called with the address, once it accepts connections.

    Raises:
        UsageError: The address is in use or needs a token, a folder holds no run, or gradio is not installed.
        WeightsError: Weights cannot be read.
    """
    check_extra("app", PACKAGES, "the page")
    from densevision.app.application import build
    from densevision.serving.options import check_exposure
    from densevision.serving.run import open_listener, run_until_stopped

    options = options or AppOptions()
    check_exposure(options)
    with open_listener(options.host, options.port) as listener:
        run_until_stopped(build(weights, runs, data, options), listener, on_start, DRAIN_SECONDS)
