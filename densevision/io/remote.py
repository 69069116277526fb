"""Files by address, through fsspec: s3://, gs://, az://, hf://datasets/..., http(s)://, memory://, file://.

Every call ends: after a time without a result it is tried again, and then an error names the address. Most backends are
packages of their own, which an error names. Credentials are those of the backend. DENSEVISION_OFFLINE forbids all that
needs a network.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.download import OFFLINE_VARIABLES, is_offline
from densevision.optional_packages import import_optional

__all__ = [
    "ATTEMPTS",
    "TIMEOUT",
    "RemoteError",
    "RemoteFile",
    "download_file",
    "exists",
    "get_name_below",
    "glob_files",
    "has_scheme",
    "is_folder",
    "join_address",
    "list_files",
    "open_file",
    "read_bytes",
    "remove_file",
    "upload_file",
    "write_bytes",
]

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds after which an attempt counts as failed."""
ATTEMPTS = 3
"""Attempts of a call that fails for a reason that may pass."""
LOCAL_SCHEMES = ("file", "local", "memory")
"""Schemes that need no network."""
ATOMIC_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory", "hf")
"""Schemes of stores where a file appears whole or not at all; elsewhere it is written under another name first."""
FINAL_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
"""Errors that another attempt would not change."""
FINAL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Codes of other system errors of that kind: a full disk, a read-only one."""
FINAL_STATUSES = (401, 403, 404)
"""HTTP statuses of that kind."""
VERSION_NAMES = (
    *("ETag", "etag", "md5Hash", "md5", "blob_id", "version_id", "sha256"),
    *("LastModified", "last_modified", "mtime", "updated", "created"),
)
"""What stores call that which changes with the content of a file, the surest first."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?://|:)")

log = logging.getLogger(__name__)


class RemoteError(DataError):
    """A store that does not respond, fails or refuses, or has no such file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a listing.

    Attributes:
        address: Its address, with the scheme.
        size: Bytes, or -1 where the store does not say.
        version: What changes with the content: an ETag, a checksum, or the time of the last change; "" if unknown.
    """

    address: str
    size: int = -1
    version: str = ""


def has_scheme(source: Any) -> bool:
    """Whether a text is an address, rather than a path.

    >>> has_scheme("s3://bucket/a.jpg"), has_scheme("photos/a.jpg"), has_scheme("C:\\\\photos")
    (True, False, False)
    """
    return isinstance(source, str) and _SCHEME.match(source) is not None


def join_address(folder: str, name: str) -> str:
    """The address of a file in a folder.

    >>> join_address("s3://bucket/out/", "a.parquet")
    's3://bucket/out/a.parquet'
    """
    return f"{folder.rstrip('/')}/{name}"


def get_name_below(folder: str, address: str) -> str:
    """The path of a listed file below the folder that was listed, which stores may state in another form.

    >>> get_name_below("memory://set", "memory:///set/a/b.png")
    'a/b.png'
    """
    base, path = (each.partition("://")[2].strip("/") for each in (folder, address))
    return path[len(base) + 1 :] if path.startswith(f"{base}/") else path.rpartition("/")[2]


def list_files(folder: str, suffixes: tuple[str, ...] = (), timeout: float = TIMEOUT) -> list[RemoteFile]:
    """Lists the files below a folder at any depth, sorted by address.

    Args:
        folder: An address.
        suffixes: Endings of names in lower case that count; all by default.
        timeout: Seconds per attempt.

    Raises:
        DataError: There is no such folder, or the store fails or does not respond.
        UsageError: The scheme is unknown, its package is absent, or the network is forbidden.
    """
    system, path = _connect(folder)
    system.invalidate_cache()  # which would show the folder as it was listed before
    found = _call(lambda: system.find(path, detail=True), folder, timeout)
    return _select(system, found, suffixes)


def glob_files(pattern: str, suffixes: tuple[str, ...] = (), timeout: float = TIMEOUT) -> list[RemoteFile]:
    """Lists the files that match a pattern with `*`, `**`, `?`, `[...]`, sorted by address; see `list_files`."""
    system, path = _connect(pattern)
    found = _call(lambda: system.glob(path, detail=True), pattern, timeout)
    return _select(system, found, suffixes)


def is_folder(address: str, timeout: float = TIMEOUT) -> bool:
    """Whether there is a folder at this address."""
    system, path = _connect(address)
    return bool(_call(lambda: system.isdir(path), address, timeout))


def exists(address: str, timeout: float = TIMEOUT) -> bool:
    """Whether there is a file or folder at this address."""
    system, path = _connect(address)
    return bool(_call(lambda: system.exists(path), address, timeout))


def read_bytes(address: str, start: int | None = None, end: int | None = None, timeout: float = TIMEOUT) -> bytes:
    """Reads a file, or the bytes from `start` up to `end` of it.

    Raises:
        DataError: There is no such file, or the store fails or does not respond.
        UsageError: The scheme is unknown, its package is absent, or the network is forbidden.
    """
    system, path = _connect(address)
    return bytes(_call(lambda: system.cat_file(path, start=start, end=end), address, timeout))


def open_file(address: str, timeout: float = TIMEOUT) -> Any:
    """Opens a file for reading in binary mode, with random access; the caller closes it.

    The time limit holds for opening; reads follow the limits of the backend.

    Raises:
        DataError: There is no such file, or the store fails or does not respond.
    """
    system, path = _connect(address)
    return _call(lambda: system.open(path, "rb"), address, timeout)


def write_bytes(address: str, data: bytes, timeout: float = TIMEOUT) -> None:
    """Writes a file whole or not at all, over one that exists.

    Raises:
        DenseVisionError: The store refuses, is full, fails or does not respond.
    """
    _write(address, lambda system, path: system.pipe_file(path, data), timeout)


def _write(address: str, put: Callable[[Any, str], object], timeout: float | None) -> None:
    """Writes by a function of the file system and the path, which replaces a file whole or not at all."""
    system, path = _connect(address)
    try:
        if _get_scheme(address) in ATOMIC_SCHEMES:
            _call(lambda: put(system, path), address, timeout)
            return
        parent, _, name = path.rpartition("/")
        temporary = f"{parent}/.{name}-{random.getrandbits(48):012x}"

        def write() -> None:
            try:
                system.makedirs(parent, exist_ok=True)
                put(system, temporary)
                system.mv(temporary, path)
            except BaseException:
                if system.exists(temporary):
                    system.rm_file(temporary)
                raise

        _call(write, address, timeout)
    except DataError as error:
        raise DenseVisionError(f"cannot write: {error.problem}", file=address, hint=error.hint) from error


def download_file(address: str, file: str | os.PathLike[str], timeout: float | None = None) -> None:
    """Copies a file of a store to this machine, without holding it in memory.

    Args:
        address: The file to copy.
        file: The new file; a failure leaves a part of it.
        timeout: Seconds per attempt; by default the limits of the backend, as the size is not known.

    Raises:
        DataError: There is no such file, or the store fails or does not respond.
    """
    system, path = _connect(address)
    _call(lambda: system.get_file(path, os.fspath(file)), address, timeout)


def upload_file(file: str | os.PathLike[str], address: str, timeout: float | None = None) -> None:
    """Copies a file of this machine to a store, where it appears whole or not at all, over one that exists.

    Args:
        file: The file to copy, which is not held in memory.
        address: Where to.
        timeout: Seconds per attempt; by default the limits of the backend.

    Raises:
        DenseVisionError: The store refuses, is full, fails or does not respond.
    """
    _write(address, lambda system, path: system.put_file(os.fspath(file), path), timeout)


def remove_file(address: str, timeout: float = TIMEOUT) -> None:
    """Removes a file; one that does not exist is an error.

    Raises:
        DataError: There is no such file, or the store fails or does not respond.
    """
    system, path = _connect(address)
    _call(lambda: system.rm_file(path), address, timeout)


def _get_scheme(address: str) -> str:
    return re.split(r"::|://", address, maxsplit=1)[0].lower()


def _connect(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    scheme = _get_scheme(address)
    if is_offline(OFFLINE_VARIABLES[:1]) and scheme not in LOCAL_SCHEMES:
        raise UsageError(f"the network is forbidden: {OFFLINE_VARIABLES[0]} is set", file=address)
    fsspec = import_optional("fsspec", "reading addresses")
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"this kind of address needs a package: {error}", file=address) from None
    except ValueError as error:
        raise UsageError(f"not an address that fsspec knows: {error}", file=address) from None


def _call(function: Callable[[], T], address: str, timeout: float | None) -> T:
    """Calls a function of a file system until it succeeds, a few times at most."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _run_with_timeout(function, timeout)
        except FINAL_ERRORS as error:
            raise _make_error(address, error) from None
        except Exception as error:  # backends raise classes of their own
            has_final_code = isinstance(error, OSError) and error.errno in FINAL_CODES
            is_final = has_final_code or _get_status(error) in FINAL_STATUSES
            if is_final or attempt == ATTEMPTS:
                raise _make_error(address, error, attempt) from None
            log.info("%s: attempt %d failed: %s", address, attempt, error)
            time.sleep(random.uniform(0.1, 0.3) * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _run_with_timeout(function: Callable[[], T], timeout: float | None) -> T:
    """Runs a function in a thread, which is left behind if it does not end in time: backends cannot be stopped."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="remote file")
    thread.start()
    thread.join(timeout)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"no response within {timeout:g} seconds")
    return outcome[0]


def _get_status(error: BaseException) -> int | None:
    """The HTTP status that an error of a backend carries, if any."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _make_error(address: str, error: BaseException, attempts: int = 1) -> RemoteError:
    if isinstance(error, FileNotFoundError) or _get_status(error) == 404:
        return RemoteError("there is no such file", file=address)
    if isinstance(error, PermissionError) or _get_status(error) in (401, 403):
        hint = "Check the credentials of the backend, and the rights of the file."
        return RemoteError(f"access is denied: {error}", file=address, hint=hint)
    reason = (str(error) or type(error).__name__).strip().replace("\n", " ")
    return RemoteError(f"{reason}{f', after {attempts} attempts' if attempts > 1 else ''}", file=address)


def _select(system: Any, found: dict[str, dict[str, Any]], suffixes: tuple[str, ...]) -> list[RemoteFile]:
    files = [
        RemoteFile(
            system.unstrip_protocol(path),
            -1 if entry.get("size") is None else int(entry["size"]),
            next((str(entry[name]) for name in VERSION_NAMES if entry.get(name)), ""),
        )
        for path, entry in found.items()
        if entry.get("type", "file") == "file" and (not suffixes or path.lower().endswith(suffixes))
    ]
    return sorted(files, key=lambda file: file.address)
