"""densevision app"""

from __future__ import annotations

import click

from densevision.app import AppOptions, launch
from densevision.cli.options import listen_options
from densevision.escaping import escape_control

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "app",
        help="Open a web page on this machine: predict images, pairs and videos, compare weights, and look at runs and "
        "datasets. Ends on SIGTERM or Ctrl-C. Needs the extra app.",
    )
    @click.option(
        "--weights", "weights", metavar="FILE|NAME", multiple=True,
        help="Weights to offer besides the bundled and downloaded ones: a file, exported model or name; repeatable.",
    )  # fmt: skip
    @click.option("--run", "runs", metavar="FOLDER", multiple=True, help="Run folder to offer; repeatable.")
    @click.option(
        "--data", metavar="PATH", multiple=True,
        help="Dataset to offer, as `train` takes it; repeatable.",
    )  # fmt: skip
    @click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
    @listen_options(AppOptions, "app")
    def app(
        weights: tuple[str, ...], runs: tuple[str, ...], data: tuple[str, ...], open_browser: bool, options: AppOptions
    ) -> None:
        def announce(url: str) -> None:
            click.echo(escape_control(f"open {url}"))
            if open_browser:
                click.launch(url)

        launch(weights=weights, runs=runs, data=data, options=options, on_start=announce)

    return app
