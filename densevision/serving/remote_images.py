"""Downloads of images that a request names by URL: from public addresses only, without redirects, limited in size.

A server that fetches what strangers name could be made to read its own network (server-side request forgery, CWE-918).
The host is therefore resolved once, all its addresses must be public, and the connection goes to the checked address,
so that a second response of the name server changes nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from densevision.errors import DataError

__all__ = ["download_image", "is_public_address"]

BLOCK = 65_536
"""Bytes that are read at a time."""
_TRANSLATED = tuple(ipaddress.ip_network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"))
"""IPv6 networks whose addresses hold an IPv4 address that may be private (RFC 6052, 8215, 3056)."""


def is_public_address(text: str) -> bool:
    """Whether an IP address belongs to the public internet.

    >>> is_public_address("8.8.8.8"), is_public_address("10.0.0.1"), is_public_address("::ffff:127.0.0.1")
    (True, False, False)
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _TRANSLATED):
            return False
        address = address.ipv4_mapped or address
    return address.is_global and not address.is_multicast


def download_image(
    url: str,
    path: Path,
    max_bytes: int,
    timeout: float,
    is_allowed: Callable[[str], bool] = is_public_address,
) -> int:
    """Downloads a file.

    Args:
        url: An http or https URL.
        path: The file to write.
        max_bytes: Maximum size.
        timeout: Seconds for the whole download.
        is_allowed: Whether an IP address may be connected to.

    Returns:
        The size in bytes.

    Raises:
        DataError: The URL is not allowed, cannot be reached, redirects, is too large or too slow.
    """
    deadline = time.monotonic() + timeout
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname
        port = parts.port or (443 if scheme == "https" else 80)
    except ValueError:
        raise DataError("is not a URL", value=url) from None
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if scheme not in ("http", "https") or not host or not is_plain or "@" in parts.netloc:
        hint = "Give an http or https URL without user name, or upload the file."
        raise DataError("is not an accepted URL", value=url, hint=hint)
    try:
        connection = _connect(scheme, host, port, timeout, is_allowed)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "densevision"}
            connection.request("GET", target, headers=headers)
            return _receive(connection, path, max_bytes, deadline)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise DataError(f"cannot be downloaded: {type(error).__name__}", value=url, hint="Upload the file.") from None
    except DataError as error:
        raise DataError(error.problem, value=url, hint=error.hint) from None


def _connect(
    scheme: str, host: str, port: int, timeout: float, is_allowed: Callable[[str], bool]
) -> http.client.HTTPConnection:
    """Connects to the first address of a host, all of whose addresses are allowed."""
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not addresses or not all(map(is_allowed, addresses)):
        raise DataError("is not on the public internet", hint="Upload the file.")
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    stream = socket.create_connection((addresses[0], port), timeout=timeout)
    if scheme == "https":
        try:
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=host)
        except BaseException:
            stream.close()
            raise
        connection.default_port = 443  # the port that the Host header leaves out
    connection.sock = stream
    return connection


def _receive(connection: http.client.HTTPConnection, path: Path, max_bytes: int, deadline: float) -> int:
    """Writes the body of the response to a file."""
    response = connection.getresponse()
    if response.status != 200:
        hint = "Redirects are not followed: give the final URL." if 300 <= response.status < 400 else None
        raise DataError(f"the server answers with status {response.status}", hint=hint)
    received = 0
    with open(path, "wb") as stream:
        while block := response.read1(BLOCK):
            received += len(block)
            if received > max_bytes:
                raise DataError(f"is larger than {max_bytes:,} bytes", hint="Use a smaller image.")
            if time.monotonic() > deadline:
                raise DataError("takes too long to download", hint="Upload the file.")
            stream.write(block)
    expected = response.length
    if expected:  # bytes that were announced and did not come
        raise DataError("the connection ended too early", hint="Try again.")
    return received
