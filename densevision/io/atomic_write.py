"""Files are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densevision.errors import DenseVisionError, UsageError


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block succeeds.

    The temporary file keeps the suffix, so that writers that go by it still work. On any failure nothing is left.

    Raises:
        DenseVisionError: The folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as failure:
        raise _unwritable(path, failure) from None
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as failure:
        raise _unwritable(path, failure) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary folder beside `path` that takes its place when the block succeeds; else nothing is left.

    Raises:
        UsageError: There is something at `path` already.
        DenseVisionError: The folder cannot be written or the disk is full.
    """
    path = Path(path).absolute()
    if path.exists():
        raise UsageError("is there already", file=path, hint="Name a new folder: nothing is written over.")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield temporary
            os.chmod(temporary, 0o777 & ~_umask())
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for folder in made:
                if not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as failure:
        raise _unwritable(path, failure) from None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes bytes whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, failure: OSError) -> DenseVisionError:
    reason = os.strerror(failure.errno) if failure.errno else str(failure)
    return DenseVisionError(
        f"cannot write: {reason}", file=path, hint="Choose another place, or free space and check the permissions."
    )
