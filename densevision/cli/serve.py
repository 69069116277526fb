"""densevision serve"""

from __future__ import annotations

import click

from densevision.cli.options import listen_options
from densevision.escaping import escape_control
from densevision.optional_packages import check_extra
from densevision.serving.options import ServerOptions

__all__ = ["command"]

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
"""Modules of the extra `serve`."""


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "serve",
        help="Serve models over HTTP: POST /v1/TASK/predict with image files. Ends on SIGTERM or Ctrl-C, after the "
        "requests in work. Needs the extra serve.",
    )
    @click.option(
        "--model",
        "models",
        metavar="TASK[=WEIGHTS]",
        multiple=True,
        required=True,
        help="Weights file, exported model or published name; the bundled demo weights by default; repeatable.",
    )
    @listen_options(ServerOptions, "serve")
    def serve(models: tuple[str, ...], options: ServerOptions) -> None:
        check_extra("serve", PACKAGES, "the server")
        from densevision.serving.run import serve as run_server

        run_server(models, options, lambda url: click.echo(escape_control(f"serving on {url}")))

    return serve
