"""Why a stream cannot be opened: FFmpeg tells OpenCV, but OpenCV does not tell us, so the server is asked."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["explain_failure", "hide_credentials"]

RTSP_PORTS = {"rtsp": 554, "rtsps": 322}


def hide_credentials(address: str) -> str:
    """An address for messages, without user name and password.

    >>> hide_credentials("rtsp://admin:secret@10.0.0.5/main")
    'rtsp://***@10.0.0.5/main'
    """
    return re.sub(r"^([a-zA-Z]+://)[^/?#]*@", r"\1***@", address)


def explain_failure(address: str, timeout: float) -> str:
    """Connects once more and says what is wrong, as a clause.

    Args:
        address: Begins with http, https, rtsp or rtsps.
        timeout: Seconds to wait.
    """
    parts = urlsplit(address)
    try:
        if parts.scheme.lower() in RTSP_PORTS:
            port = parts.port or RTSP_PORTS[parts.scheme.lower()]
            with socket.create_connection((parts.hostname or "", port), timeout):
                return "the server has no such stream, or refuses the user name and password"
        with urllib.request.urlopen(_make_request(address), timeout=timeout) as response:
            return f"not a readable video: the server sends {response.headers.get_content_type()}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server returned {error.code} {error.reason}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"the server sent nothing within {timeout:g} s"
        return f"cannot be reached: {getattr(reason, 'strerror', None) or reason or 'the connection was closed'}"


def _make_request(address: str) -> urllib.request.Request:
    """A request for the first byte, with the credentials of the address."""
    parts = urlsplit(address)
    server = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=server)), headers={"Range": "bytes=0-0"})
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request
