"""Downloads of files that were asked for by name: the right file or a clear error, never a part of one."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from densevision.errors import WeightsError
from densevision.io.atomic_write import atomic_write

__all__ = ["download", "is_offline"]

ATTEMPTS = 3
"""Attempts at a download that fails for a reason that may pass: time-outs, broken connections, errors of the server."""
BLOCK = 1 << 20
OFFLINE_VARIABLES = ("DENSEVISION_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid every download."""

log = logging.getLogger(__name__)


class _DownloadError(Exception):
    """A failed attempt; `may_pass` says whether another one may succeed."""

    def __init__(self, error: Exception):
        super().__init__(str(error) or type(error).__name__)
        is_refusal = isinstance(error, urllib.error.HTTPError) and error.code < 500
        self.may_pass = not is_refusal and not isinstance(error.args[0] if error.args else None, _ForbiddenRedirect)


class _ForbiddenRedirect(str):
    """Reason of a `URLError` for a redirect that is not followed."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme, before = urlsplit(newurl).scheme, urlsplit(req.full_url).scheme
        if scheme not in ("http", "https") or (before == "https" and scheme != "https"):
            raise urllib.error.URLError(_ForbiddenRedirect(f"it redirects to {newurl}, which is not followed"))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_offline() -> bool:
    """Whether an environment variable forbids downloads."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_VARIABLES)


def download(address: str, path: Path, sha256: str = "", timeout: float = 60.0, hint: str | None = None) -> str:
    """Downloads a file and verifies it before it appears under its name.

    Several processes may download the same file at once: each writes its own temporary file.

    Args:
        address: An http or https URL.
        path: The file to write.
        sha256: Start of its hash in hexadecimal; not verified when empty.
        timeout: Seconds without any data after which the connection counts as broken.
        hint: What a person can do instead, for messages.

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
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _download_once(address, path, sha256, timeout)
        except _DownloadError as error:
            if attempt == ATTEMPTS or not error.may_pass:
                raise WeightsError(f"cannot download: {error}", value=address, hint=hint) from None
            log.info("download failed (%s), attempt %d of %d", error, attempt + 1, ATTEMPTS)
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


def _download_once(address: str, path: Path, sha256: str, timeout: float) -> str:
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        digest = hashlib.sha256()
        try:
            _stream(address, timeout, stream, digest)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise _DownloadError(error) from None
        if not digest.hexdigest().startswith(sha256.lower()):
            problem = "the downloaded file is not the published one: its SHA-256 differs"
            hint = f"Expected {sha256}, got {digest.hexdigest()}."
            raise WeightsError(problem, value=address, hint=hint)
    return digest.hexdigest()


def _stream(address: str, timeout: float, stream: BinaryIO, digest: Any) -> None:
    received = 0
    with urllib.request.build_opener(_SafeRedirects).open(address, timeout=timeout) as response:
        expected = response.headers.get("Content-Length")
        while block := response.read(BLOCK):
            digest.update(block)
            stream.write(block)
            received += len(block)
    if expected is not None and received != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - received)
