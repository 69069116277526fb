"""Folders: write access and free space of the cache, the temporary folder and the working folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from densevision.io.cache_folder import get_cache_folder
from densevision.system_checks.finding import SystemFinding

__all__ = ["check_folders"]

MIN_FREE_GIB = 1.0
"""Room for a checkpoint and some weights."""


def check_folders() -> Iterator[SystemFinding]:
    """Writes a file into every folder that densevision writes into."""
    yield _check_folder("cache folder", get_cache_folder(), "Set DENSEVISION_CACHE to a writable folder.")
    yield _check_temporary_folder()
    hint = "Change into a folder of yours, or pass --out."
    yield _check_folder("working folder", Path.cwd(), hint, fault="warning")


def _check_temporary_folder() -> SystemFinding:
    named = os.environ.get("TMPDIR")
    hint = "Set TMPDIR to a writable folder."
    if named and not os.path.isdir(named):  # Python would silently take another one
        return SystemFinding("temporary folder", "error", f"TMPDIR={named} is not a folder", hint)
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return SystemFinding("temporary folder", "error", str(error), hint)
    return _check_folder("temporary folder", folder, hint)


def _check_folder(name: str, folder: Path, hint: str, fault: str = "error") -> SystemFinding:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent  # a missing cache folder is made when it is needed
    try:
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(b"densevision")
        free = shutil.disk_usage(existing).free / 2**30
    except OSError as error:
        message = f"{folder} is not writable: {error.strerror}"
        return SystemFinding(name, fault, message, hint)  # type: ignore[arg-type]
    if free < MIN_FREE_GIB:
        return SystemFinding(
            name, "warning", f"{folder} has {free:.2f} GiB of free space", f"Free some space, or: {hint}"
        )
    return SystemFinding(name, "ok", f"{folder} is writable, {free:.0f} GiB free")
