"""Which files a dataset in shards or in remote storage consists of."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from densevision.errors import DataError
from densevision.io import remote
from densevision.io.image_files import IMAGE_SUFFIXES, is_system_file

__all__ = ["SHARD_SUFFIXES", "Listing", "SourceFile", "list_dataset"]

SHARD_SUFFIXES = (".tar", ".parquet")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SHARD_HINT = "Expected: a folder of .tar or .parquet files, one such file, or a pattern such as train-{000..099}.tar."
MAX_SHARDS = 1_000_000
PROBED_FILES = 64
"""Files of a folder that are looked at to see whether it holds shards."""


@dataclass(frozen=True)
class SourceFile:
    """A file of the dataset.

    Attributes:
        name: Its path in the dataset, with slashes.
        address: Its path or address.
        size: Bytes.
        version: What changes with its content.
    """

    name: str
    address: str
    size: int
    version: str

    @property
    def is_shard(self) -> bool:
        """Whether it holds other files."""
        return self.name.lower().endswith(SHARD_SUFFIXES)


@dataclass(frozen=True)
class Listing:
    """The files of a dataset, sorted.

    Attributes:
        origin: What the user gave.
        root: Path or address of the folder that names are relative to.
        shards: Files that hold others; none where the dataset's files lie in remote storage one by one.
        files: All others.
    """

    origin: str
    root: str
    shards: tuple[SourceFile, ...]
    files: tuple[SourceFile, ...]


def list_dataset(path: str) -> Listing | None:
    """Lists a dataset in shards or in remote storage; None for folders and files of this machine that are neither.

    Args:
        path: A folder, a shard, or a pattern of shards with `*` or `{000..099}`; on this machine or by address.

    Raises:
        DataError: There are no such files, or the storage does not respond or refuses.
    """
    if path.lower().endswith(_COMPRESSED):
        hint = "Members of a compressed archive cannot be read one by one: decompress it to .tar, or unpack it."
        raise DataError("a compressed archive", file=path, hint=hint)
    is_pattern = "*" in path or _RANGE.search(path) is not None
    if not remote.has_scheme(path):
        if is_pattern and not os.path.exists(path):
            return _list_pattern(path)
        if os.path.isfile(path) and path.lower().endswith(SHARD_SUFFIXES):
            return _make_listing(path, os.path.dirname(os.path.abspath(path)), [path])
        return _list_local_folder(path) if os.path.isdir(path) else None
    if is_pattern:
        return _list_pattern(path)
    files = [*_relate(remote.list_files(path), path)]
    if not files:
        raise DataError("there is no such file or folder, or it is empty", file=path, hint="Check the address.")
    return _divide(path, path, files)


def _list_pattern(pattern: str) -> Listing:
    addresses = [address for each in _expand_ranges(pattern) for address in _expand_stars(each)]
    if not addresses:
        raise DataError("no file matches this pattern", file=pattern, hint=_SHARD_HINT)
    root = pattern[: min(index for index in map(pattern.find, "*{") if index >= 0)].rpartition("/")[0]
    return _make_listing(pattern, root or os.curdir, addresses)


def _expand_ranges(pattern: str) -> Iterator[str]:
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise DataError("an empty or endless range", file=pattern, value=match[0], hint="Write {FIRST..LAST}.")
    for number in range(first, last + 1):
        yield from _expand_ranges(f"{pattern[: match.start()]}{number:0{len(match[1])}d}{pattern[match.end() :]}")


def _expand_stars(pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    if remote.has_scheme(pattern):
        return [file.address for file in remote.glob_files(pattern)]
    return sorted(glob.glob(pattern))


def _make_listing(origin: str, root: str, addresses: Iterable[str]) -> Listing:
    files = []
    for address in addresses:
        if not address.lower().endswith(SHARD_SUFFIXES):
            raise DataError("not a shard", file=address, hint=_SHARD_HINT)
        if remote.has_scheme(address):
            found = remote.list_files(address)
            if not found:
                raise DataError("there is no such file", file=address, hint="Check the address.")
            files += [*_relate(found, root)]
        else:
            files.append(_describe_local(Path(address), Path(root)))
    return Listing(origin, root, tuple(files), ())


def _list_local_folder(folder: str) -> Listing | None:
    """Lists a folder with shards and without images; beside images, archives are what these were unpacked from."""
    root = Path(folder)
    if not any(map(_begins_with_shards, (root, *(path for path in sorted(root.iterdir()) if path.is_dir())))):
        return None
    paths = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES):
                return None
            if not is_system_file(name):
                paths.append(Path(parent) / name)
    return _divide(folder, os.path.abspath(folder), [_describe_local(path, root) for path in paths])


def _begins_with_shards(folder: Path) -> bool:
    """Whether a shard is among the first files of a folder, which may hold a million images."""
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(SHARD_SUFFIXES) for entry in islice(entries, PROBED_FILES))


def _divide(origin: str, root: str, files: list[SourceFile]) -> Listing:
    """Separates shards from other files; beside images, shards are other files, too."""
    has_images = any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in files)
    shards = [] if has_images else [file for file in files if file.is_shard]
    others = [file for file in files if file not in shards] if shards else files
    return Listing(origin, root, tuple(shards), tuple(others))


def _relate(files: Iterable[remote.RemoteFile], root: str) -> Iterator[SourceFile]:
    """Names files below an address, without hidden ones."""
    for file in files:
        name = remote.get_name_below(root, file.address)
        if not any(map(is_system_file, name.split("/"))):
            yield SourceFile(name, file.address, file.size, file.version)


def _describe_local(path: Path, root: Path) -> SourceFile:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, hint=_SHARD_HINT) from None
    name = os.path.relpath(path, root).replace(os.sep, "/")
    return SourceFile(name, os.path.abspath(path), status.st_size, f"{status.st_mtime_ns}-{status.st_size}")
