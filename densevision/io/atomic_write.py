"""Atomic file writing: a file is written completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densevision.errors import DenseVisionError, UsageError

__all__ = ["atomic_folder", "atomic_write", "write_bytes", "write_text"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path next to `path`, which replaces it when the block succeeds.

    The temporary file keeps the suffix, because some writers depend on it. After a failure no file is left.

    Raises:
        DenseVisionError: The folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise _make_write_error(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_get_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise _make_write_error(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder next to `path`, which is renamed to it when the block succeeds; else nothing is left.

    Raises:
        UsageError: `path` exists already.
        DenseVisionError: The folder cannot be written to, or the disk is full.
    """
    path = Path(path).absolute()
    if path.exists():
        raise UsageError("already exists", file=path, hint="Choose a new folder: existing files are not overwritten.")
    new_parents = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield temporary
            os.chmod(temporary, 0o777 & ~_get_umask())
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for folder in new_parents:
                if not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as error:
        raise _make_write_error(path, error) from None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes bytes atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _make_write_error(path: Path, error: OSError) -> DenseVisionError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = "Choose another folder, or free disk space and check the permissions."
    return DenseVisionError(f"cannot write: {reason}", file=path, hint=hint)
