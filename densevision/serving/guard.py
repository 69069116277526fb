"""What every request passes first: token, host name, and the size of its body."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
from starlette.exceptions import HTTPException

from densevision.serving.options import ListenOptions, is_loopback
from densevision.serving.responses import encode_error

__all__ = ["Guard"]

PUBLIC_PATHS = ("/health",)
"""Paths that need no token, so that a load balancer can probe them."""
DISCARD_SECONDS = 5.0
"""Time for which the rest of a refused body is read and discarded.

A client that is still sending when the connection closes may never see why.
"""

Message = MutableMapping[str, Any]


class Guard:
    """ASGI middleware that checks token, host name and size of requests, and observes their responses.

    Args:
        app: The application.
        options: Token and limits.
        observe: Called with path, status and seconds of each request.
    """

    def __init__(
        self,
        app: Any,
        options: ListenOptions,
        observe: Callable[[str, int, float], None] = lambda path, status, seconds: None,
    ):
        self.app, self.options, self.observe = app, options, observe

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Handles one connection of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Exchange(scope, receive, send, self.options.max_upload_bytes)
        try:
            status, problem = self.refuse(scope, request.headers)
            if problem is None:
                await self.app(scope, request.receive, request.send)
            else:
                await _send_error(request.send, status, problem)
        finally:
            self.observe(scope["path"], request.status, time.monotonic() - request.started)

    def refuse(self, scope: Message, headers: dict[bytes, bytes]) -> tuple[int, str | None]:
        """Status and problem of a request that is not accepted; None for one that is."""
        token = self.options.token
        if token is not None and not self.has_access(scope, headers):
            return 401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN"
        # Otherwise a web page whose name resolves to this machine could read responses (DNS rebinding).
        if token is None and not is_loopback(_get_host(headers.get(b"host", b""))):
            return 421, "without a token, only requests to localhost and loopback addresses are answered"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.options.max_upload_bytes:
            return 413, _describe_limit(self.options.max_upload_bytes)
        return 200, None

    def has_access(self, scope: Message, headers: dict[bytes, bytes]) -> bool:
        """Whether a request has the token, or needs none."""
        expected = f"Bearer {self.options.token}".encode()
        return scope["path"] in PUBLIC_PATHS or hmac.compare_digest(headers.get(b"authorization", b""), expected)


class _Exchange:
    """A request and its response: counts the body, and reads its rest before an error is sent."""

    def __init__(self, scope: Message, receive: Any, send: Any, max_bytes: int):
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.max_bytes = max_bytes
        self.status = 500
        self.started = time.monotonic()
        self._receive, self._send = receive, send
        self._size = 0
        self._has_more = self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers

    async def receive(self) -> Message:
        """The next message of the client.

        Raises:
            HTTPException: The body is too large.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._has_more = message.get("more_body", False)
            self._size += len(message.get("body", b""))
            if self._size > self.max_bytes:
                raise HTTPException(413, _describe_limit(self.max_bytes))
        else:
            self._has_more = False
        return message

    async def send(self, message: Message) -> None:
        """Sends a message to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= 400 and self._has_more and b"expect" not in self.headers:
                await self._discard_body()
        await self._send(message)

    async def _discard_body(self) -> None:
        with anyio.move_on_after(DISCARD_SECONDS):
            while self._has_more:
                message = await self._receive()
                self._has_more = message["type"] == "http.request" and message.get("more_body", False)


async def _send_error(send: Any, status: int, problem: str) -> None:
    body = json.dumps(encode_error(problem)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _describe_limit(max_bytes: int) -> str:
    return f"the request is larger than {max_bytes:,} bytes: send a smaller image, or several requests"


def _get_host(header: bytes) -> str:
    """The host of `HOST:PORT`, without brackets."""
    text = header.decode("latin-1")
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
