"""What every request to the page passes first: the server's guard, a sign-in for browsers, and a list of paths."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import MutableMapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from densevision.app.options import AppOptions
from densevision.serving.guard import PUBLIC_PATHS, Guard

__all__ = ["PageGuard"]

SIGN_IN = "/sign-in"
MAX_FORM_BYTES = 4096
PATHS = ("/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", SIGN_IN, *PUBLIC_PATHS)
FOLDERS = ("/assets/", "/static/", "/svelte/")
"""Where gradio's own scripts, fonts and icons are."""
CALLS = ("upload", "upload_progress", "queue/join", "queue/data", "cancel", "reset")
"""Paths below /gradio_api/ that the page uses, besides files and the connection that tells that it is open.

Others would let visitors fetch addresses through this machine (`file=http`, `proxy=`), or run code editors."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Content Security Policy: the browser loads nothing from, and sends nothing to, any other address."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    # Not "no-referrer": with it, browsers send the form of the sign-in with "Origin: null", as pages of other sites do.
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)

Message = MutableMapping[str, Any]


class PageGuard(Guard):
    """The guard of the server, for browsers.

    A browser cannot send the token as a header, so it signs in once by a form, and gets a cookie that holds a random
    word of this process. Requests that other sites' pages make, and paths that the page does not use, are refused.

    Args:
        app: The application.
        options: Token and limits.
    """

    def __init__(self, app: Any, options: AppOptions):
        super().__init__(self._handle, options)
        self._page = app
        self._session = secrets.token_urlsafe(32)
        # Pages on other ports of the same host have other cookies.
        self._cookie = f"densevision-{secrets.token_hex(4)}"

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Handles one connection of ASGI; the page uses no web sockets."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await super().__call__(scope, receive, send_with_policy)

    def refuse(self, scope: Message, headers: dict[bytes, bytes]) -> tuple[int, str | None]:
        """Status and problem of a request that is not accepted."""
        if not _is_known(scope["path"]):
            return 404, "there is no such path"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.encode() != headers.get(b"host"):
            return 403, "pages of other sites may not send requests"
        return super().refuse(scope, headers)

    def has_access(self, scope: Message, headers: dict[bytes, bytes]) -> bool:
        """Whether a request is signed in, has the token, or needs neither."""
        if scope["path"] in ("/", SIGN_IN) or super().has_access(scope, headers):
            return True  # without a session, these show the form
        return self._is_signed_in(headers)

    async def _handle(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or self.options.token is None:
            await self._page(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            given = (await _read_form(receive)).get("token", [""])[0]
            is_right = hmac.compare_digest(given.encode(), self.options.token.encode())
            await (self._send_session(send) if is_right else _send_form(send, 401, "This is not the token."))
        elif scope["path"] == SIGN_IN or not (self._is_signed_in(headers) or super().has_access(scope, headers)):
            await _send_form(send, 200 if scope["path"] in ("/", SIGN_IN) else 401, "")
        else:
            await self._page(scope, receive, send)

    def _is_signed_in(self, headers: dict[bytes, bytes]) -> bool:
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode())

    async def _send_session(self, send: Any) -> None:
        cookie = f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _is_known(path: str) -> bool:
    if path in ("/", *PATHS) or path.startswith(FOLDERS):
        return True
    prefix, _, call = path.partition("/gradio_api/")
    is_file = call.startswith("file=") and "://" not in call
    return not prefix and (call in CALLS or is_file or call.startswith("heartbeat/"))


async def _read_form(receive: Any) -> dict[str, list[str]]:
    """The fields of a short form; those of a longer one are empty."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_FORM_BYTES:
            return {}
        if not message.get("more_body"):
            return parse_qs(body.decode("utf-8", "replace"))


async def _send_form(send: Any, status: int, problem: str) -> None:
    page = _FORM.replace("PROBLEM", escape(problem)).encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(page)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": page})


_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>densevision: sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; --accent: #4f46e5; --line: #94a3b8; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { width: min(22rem, 90vw); border: 1px solid var(--line); border-radius: 8px; padding: 1.5rem; }
h1 { font-size: 1.6rem; letter-spacing: -.02em; margin: 0 0 1rem; }
input, button { font: inherit; padding: .6rem; width: 100%; box-sizing: border-box; margin-top: .5rem;
  border: 1px solid var(--line); border-radius: 6px; }
button { background: var(--accent); border-color: var(--accent); color: white; font-weight: 600; cursor: pointer; }
p { min-height: 1.5em; margin: .75rem 0 0; }
</style></head>
<body><main><h1>densevision</h1>
<form method="post" action="/sign-in">
<label for="token">Token of this page</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Sign in</button>
<p role="alert">PROBLEM</p>
</form></main></body></html>
"""
