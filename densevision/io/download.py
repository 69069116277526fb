"""Downloads of files that were asked for by name: the right file or a clear error, never a part of one."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from densevision.errors import WeightsError
from densevision.io.atomic_write import atomic_write

__all__ = ["download", "is_offline"]

ATTEMPTS = 3
"""Attempts in a row without any progress, at a download that fails for a reason that may pass: time-outs, broken
connections, errors of the server."""
BLOCK = 1 << 20
OFFLINE_VARIABLES = ("DENSEVISION_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid every download."""

log = logging.getLogger(__name__)


class _DownloadError(Exception):
    """A failed attempt; `may_pass` says whether another one may succeed."""

    def __init__(self, error: Exception):
        if isinstance(error, http.client.IncompleteRead):
            text = f"the connection ended {error.expected or 0:,} bytes too early"
        else:
            is_status = isinstance(error, urllib.error.HTTPError)
            cause = error.reason if isinstance(error, urllib.error.URLError) and not is_status else error
            text = str(cause).strip().replace("\n", " ")
        super().__init__(text or type(error).__name__)
        is_refusal = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
        self.may_pass = not is_refusal and not isinstance(error.args[0] if error.args else None, _WrongContent)


class _WrongContent(str):
    """Reason of a `URLError` that trying again does not change."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme, before = urlsplit(newurl).scheme, urlsplit(req.full_url).scheme
        if scheme not in ("http", "https") or (before == "https" and scheme != "https"):
            raise urllib.error.URLError(_WrongContent(f"it redirects to {newurl}, which is not followed"))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_offline(names: Sequence[str] = OFFLINE_VARIABLES) -> bool:
    """Whether one of these environment variables forbids downloads."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def download(
    address: str,
    path: Path,
    sha256: str = "",
    timeout: float = 60.0,
    hint: str | None = None,
    max_bytes: int | None = None,
) -> str:
    """Downloads a file and verifies it before it appears under its name.

    A connection that breaks is resumed where it broke, if the server still has the same file. Several processes may
    download the same file at once: each writes its own temporary file.

    Args:
        address: An http or https URL.
        path: The file to write.
        sha256: Start of its hash in hexadecimal; not verified when empty.
        timeout: Seconds without any data after which the connection counts as broken.
        hint: What a person can do instead, for messages.
        max_bytes: Size from which on it cannot be the right file; no limit if None.

    Returns:
        The SHA-256 of the file.

    Raises:
        WeightsError: The network is forbidden, out of reach or too slow, the server refuses, the file is short, or its
            hash differs.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise WeightsError("only http and https addresses are downloaded", value=address, hint=hint)
    if is_offline():
        names = " or ".join(OFFLINE_VARIABLES)
        raise WeightsError(f"cannot download: {names} is set", value=address, hint=hint)
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        transfer = _Transfer(address, stream, timeout, max_bytes)
        failures = 0
        while True:
            received = transfer.received
            try:
                transfer.run()
                break
            except _DownloadError as error:
                failures = 1 if transfer.received > received else failures + 1
                if failures == ATTEMPTS or not error.may_pass:
                    raise WeightsError(f"cannot download: {error}", value=address, hint=hint) from None
                log.info("download failed after %d bytes (%s), trying again", transfer.received, error)
                time.sleep(0.1 * 2**failures)
        digest = transfer.digest.hexdigest()
        if not digest.startswith(sha256.lower()):
            problem = "the downloaded file is not the published one: its SHA-256 differs"
            raise WeightsError(problem, value=address, hint=f"Expected {sha256}, got {digest}.")
    return digest


class _Transfer:
    """A file on its way, over one connection or several.

    Attributes:
        received: Bytes of it so far.
        digest: The SHA-256 of these bytes.
    """

    def __init__(self, address: str, stream: BinaryIO, timeout: float, max_bytes: int | None):
        self.address, self.stream, self.timeout, self.max_bytes = address, stream, timeout, max_bytes
        self.received, self.digest = 0, hashlib.sha256()
        self.version: str | None = None

    def run(self) -> None:
        """Receives what is missing over one connection.

        Raises:
            _DownloadError: It failed, or the server sends something else than a plain file.
        """
        request = urllib.request.Request(self.address, headers={"Accept-Encoding": "identity"})
        if self.received and self.version:
            request.add_header("Range", f"bytes={self.received}-")
            request.add_header("If-Range", self.version)
        try:
            with urllib.request.build_opener(_SafeRedirects).open(request, timeout=self.timeout) as response:
                self._receive(response)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            raise _DownloadError(error) from None

    def _receive(self, response: http.client.HTTPResponse) -> None:
        is_resumed = response.status == 206
        if is_resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {self.received}-"):
            self._restart()
            raise http.client.HTTPException("the server sends another part than the one that is missing")
        if not is_resumed:
            self._restart()
        self.version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise urllib.error.URLError(_WrongContent(f"the server sends the file encoded as {encoding}"))
        length = response.headers.get("Content-Length")
        expected = None if length is None else self.received + int(length)
        while block := response.read(BLOCK):
            self.digest.update(block)
            self.stream.write(block)
            self.received += len(block)
            if self.max_bytes is not None and self.received > self.max_bytes:
                raise urllib.error.URLError(_WrongContent(f"the server sends more than {self.max_bytes:,} bytes"))
        if expected is not None and self.received != expected:
            raise http.client.IncompleteRead(b"", expected - self.received)

    def _restart(self) -> None:
        self.stream.seek(0)
        self.stream.truncate()
        self.received, self.digest = 0, hashlib.sha256()
