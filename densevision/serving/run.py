"""Running the server: the socket, the signals, and the end without lost requests."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from densevision.errors import UsageError
from densevision.serving.app import create_app
from densevision.serving.options import ServerOptions, check_exposure
from densevision.serving.served_models import load_model

__all__ = ["open_listener", "run_until_stopped", "serve"]

BACKLOG = 2048
MAX_CONNECTIONS = 1024
"""Connections beyond which new ones are answered with 503, by default."""
ARRIVAL_SECONDS = 0.5
"""Seconds within which the request of a new connection arrives, when the server ends."""
DRAIN_SECONDS = 10.0
"""Seconds beyond the time-out that open requests have when the server ends, to send their responses."""


def serve(
    models: Sequence[str], options: ServerOptions | None = None, on_start: Callable[[str], None] = lambda url: None
) -> None:
    """Serves models over HTTP until SIGTERM or Ctrl-C; requests in work are then completed, and new ones refused.

    Args:
        models: `TASK=WEIGHTS`, or `TASK` for its bundled demo weights; of each task, the first is the default.
        options: Address, limits, batching and token.
        on_start: Called with the address, once it accepts connections.

    Raises:
        UsageError: The address is in use, or needs a token.
        WeightsError: A model cannot be loaded.
    """
    options = options or ServerOptions()
    check_exposure(options)
    with open_listener(options.host, options.port) as listener:  # before the models are loaded, which takes longer
        app = create_app([load_model(text, options) for text in models], options)
        connections = max(MAX_CONNECTIONS, 2 * options.queue)
        run_until_stopped(app, listener, on_start, round(options.timeout + DRAIN_SECONDS), connections)


def run_until_stopped(
    app: Any,
    listener: socket.socket,
    on_start: Callable[[str], None],
    drain_seconds: int,
    max_connections: int = MAX_CONNECTIONS,
) -> None:
    """Runs an application until SIGTERM or Ctrl-C.

    Args:
        app: An ASGI application.
        listener: A bound socket.
        on_start: Called with the address, once it accepts connections.
        drain_seconds: Time for open requests when the server ends.
        max_connections: Connections beyond which new ones are answered with 503.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        backlog=BACKLOG,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=drain_seconds,
    )
    host, port = listener.getsockname()[:2]
    server = _Server(config, lambda: on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}"))
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that says when it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]):
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application and listens."""
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, and waits for the requests of new connections before idle connections are closed."""
        for listener in self.servers:
            listener.close()
        await asyncio.sleep(ARRIVAL_SECONDS)
        await super().shutdown(sockets)


def open_listener(host: str, port: int) -> socket.socket:
    """Binds the address; connections are accepted once the server runs."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            if os.name == "posix":  # elsewhere the option would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        hint = "Choose another host or port; port 0 picks a free one."
        problem = f"cannot listen: {error.strerror or error}"
        raise UsageError(problem, field="port", value=f"{host}:{port}", hint=hint) from None
    return listener
