"""Decoded images in files that several processes map into memory: what was decoded once is not decoded again.

The pixels of an image are those of `read_image`, to the bit. An entry is found by the path, size and time of the image
file, so that a changed image is decoded again; it is written whole, so that processes and runs may share a folder.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np

from densevision.errors import DenseVisionError
from densevision.io.atomic_write import atomic_write
from densevision.io.cache_folder import get_cache_folder
from densevision.io.file_cache import read_state
from densevision.io.image import MAX_PIXELS, read_image
from densevision.io.placeholders import is_stand_in

__all__ = ["CacheKind", "ImageCache", "open_image_cache", "read_cached_image"]

CacheKind = Literal["ram", "disk"]

log = logging.getLogger("densevision")

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "densevision-images-"
_LEDGER = "used"
_UNIT = 1 << 16
"""Bytes that a byte of the ledger stands for."""
_FREE_FRACTION = 0.1
"""Part of the file system that stays free."""


class ImageCache:
    """A folder of decoded images of bounded size. Picklable; all copies share the folder.

    Images beyond the bound are decoded each time. The ledger of what is used grows by appended bytes, which processes
    can do at once without a lock; each may exceed the bound by an image.

    Args:
        folder: The folder; it is created.
        max_bytes: Bound of its size.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self.folder, self.max_bytes = folder, max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads an image as `read_image` does, from the cache where it is there; changes of the array stay its own.

        Raises:
            DataError: As `read_image`.
        """
        state = read_state(path)
        if state is None or is_stand_in(path):  # the content of a stand-in changes without its time and size
            return read_image(path, max_pixels)
        entry = self.folder / f"{_make_key(path, state)}.npy"
        image = _load(entry)
        if image is not None and image.shape[0] * image.shape[1] <= max_pixels:
            return image
        image = read_image(path, max_pixels)
        self._store(entry, image)
        return image

    @property
    def used_bytes(self) -> int:
        """Bytes of all entries, each rounded up to 64 KiB."""
        state = read_state(self.folder / _LEDGER)
        return 0 if state is None else state[1] * _UNIT

    def _store(self, entry: Path, image: np.ndarray) -> None:
        units = -(-image.nbytes // _UNIT)
        try:
            space = shutil.disk_usage(self.folder)
            has_space = space.free - units * _UNIT > _FREE_FRACTION * space.total
            if not has_space or self.used_bytes + units * _UNIT > self.max_bytes:
                return
            with atomic_write(entry) as temporary, open(temporary, "wb") as stream:
                np.save(stream, image, allow_pickle=False)
            with open(self.folder / _LEDGER, "ab") as ledger:
                ledger.write(bytes(units))
        except (DenseVisionError, OSError) as error:  # without a cache everything works, only slower
            log.warning("the cache of decoded images cannot be written: %s", error)


def read_cached_image(path: str | os.PathLike[str], max_pixels: int, cache: ImageCache | None) -> np.ndarray:
    """Reads an image, through a cache if there is one."""
    return read_image(path, max_pixels) if cache is None else cache.read(path, max_pixels)


@functools.lru_cache
def open_image_cache(kind: CacheKind | None, gigabytes: float) -> ImageCache | None:
    """Opens the cache that a config names; the same one for all datasets of a process.

    Args:
        kind: "ram" is a folder in the shared memory of Linux, elsewhere of temporary files, that ends with the process
            that opened it; "disk" is `images` in the cache folder, which later runs find again; None is no cache.
        gigabytes: Bound of its size.
    """
    if kind is None:
        return None
    max_bytes = int(gigabytes * 1e9)
    if kind == "disk":
        cache = ImageCache(get_cache_folder() / "images", max_bytes)
    else:
        parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        _remove_leftovers(parent)
        cache = ImageCache(Path(tempfile.mkdtemp(dir=parent, prefix=f"{_PREFIX}{os.getpid()}-")), max_bytes)
        weakref.finalize(cache, _remove, cache.folder, os.getpid())
    used, place = cache.used_bytes / 1e9, cache.folder
    log.info("decoded images are kept in %s: at most %.3g GB, of which %.3g GB are used", place, gigabytes, used)
    return cache


def _make_key(path: str | os.PathLike[str], state: tuple[int, int]) -> str:
    text = f"{os.path.abspath(path)}\0{state[0]}\0{state[1]}"
    return hashlib.blake2b(os.fsencode(text), digest_size=20).hexdigest()


def _load(entry: Path) -> np.ndarray | None:
    """Maps an entry, copied where it is changed; None if it is missing or damaged."""
    try:
        # Read-only pages are shared by all processes; "c" copies those that a caller writes to.
        image: Any = np.load(entry, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return np.asarray(image).view(np.ndarray) if image.ndim == 3 else None


def _remove(folder: Path, owner: int) -> None:
    """Removes the folder at the end of the process that made it, not of a forked one."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Removes the folders of processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
