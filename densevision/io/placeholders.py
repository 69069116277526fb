"""Files whose content lies elsewhere: in shards (tar, Parquet) or in remote storage.

A *stand-in folder* in the cache shows a dataset's files by their names: labels whole, everything else as empty
placeholders. So all that lists and finds files works as on any folder, and what reads their content opens them through
this module, which fetches it. An index beside the folder says where each content lies; processes need no other state.

    sets/KEY/index.sqlite    name -> container, position, size; the containers; where the set comes from
    sets/KEY/sizes.sqlite    (height, width) of images that were measured once
    sets/KEY/NAME/           the folder that readers see
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from densevision.errors import DataError, rename_files_in_errors
from densevision.io.cache_folder import find_cache_path
from densevision.io.places import Container, Content

__all__ = [
    "copy_file",
    "get_size",
    "get_stand_in_root",
    "is_stand_in",
    "open_binary",
    "read_content",
    "recall_image_size",
    "remember_image_size",
    "set_limit",
    "write_index",
]

INDEX, SIZES = "index.sqlite", "sizes.sqlite"
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE containers (id INTEGER PRIMARY KEY, kind TEXT, address TEXT, version TEXT);
CREATE TABLE files (name TEXT PRIMARY KEY, container INTEGER, start INTEGER, size INTEGER, part TEXT) WITHOUT ROWID;
"""
_local = threading.local()
"""Of each thread: its connections, and the content that it read last, which decoders open several times."""


@dataclass(frozen=True)
class _Placeholder:
    key: str
    path: str
    container: Container
    content: Content
    limit: int


def get_stand_in_root() -> Path:
    """The folder of all stand-in folders."""
    return Path(_resolve_root(find_cache_path()))


def open_binary(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading, wherever its content lies; as `open(path, "rb")`.

    Raises:
        OSError: As `open`.
        DataError: The content cannot be fetched, or its shard is cut short.
    """
    placeholder = _find(path)
    return open(path, "rb") if placeholder is None else io.BytesIO(_fetch(placeholder))


def read_content(path: str | os.PathLike[str]) -> bytes | None:
    """The content of a placeholder; None for all other files. Raises as `open_binary`."""
    placeholder = _find(path)
    return None if placeholder is None else _fetch(placeholder)


def copy_file(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies a file, wherever its content lies; as `shutil.copy2`. Raises as `open_binary`."""
    content = read_content(path)
    if content is None:
        shutil.copy2(path, target)
    else:
        Path(target).write_bytes(content)


def is_stand_in(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder only stands for a dataset elsewhere."""
    return _split(folder) is not None


def get_size(path: str | os.PathLike[str]) -> int:
    """Size of a file in bytes, wherever its content lies; raises as `open_binary`."""
    placeholder = _find(path)
    if placeholder is None:
        return os.path.getsize(path)
    return placeholder.content.size if placeholder.content.size >= 0 else len(_fetch(placeholder))


def recall_image_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of an image in remote storage or Parquet that was measured before; None for all others."""
    placeholder = _find(path)
    if placeholder is None or not _is_worth_remembering(placeholder):
        return None
    row = _connect_sizes(placeholder.key).execute("SELECT height, width FROM sizes WHERE name = ?", (placeholder.path,))
    size: tuple[int, int] | None = row.fetchone()
    return size


def remember_image_size(path: str | os.PathLike[str], size: tuple[int, int]) -> None:
    """Keeps the size of a sound image, so that the next run need not fetch it for that; see `recall_image_size`."""
    placeholder = _find(path)
    if placeholder is not None and _is_worth_remembering(placeholder):
        values = (placeholder.path, *map(int, size))
        _connect_sizes(placeholder.key).execute("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?)", values)


def write_index(
    folder: Path, origin: str, limit: int, containers: Iterable[Container], files: Iterable[tuple[str, Content]]
) -> None:
    """Writes the index of a new stand-in folder, file by file.

    Args:
        folder: The folder of the set, which holds the stand-in folder.
        origin: Where the set comes from, for messages.
        limit: Size of the cache of contents in bytes.
        containers: What holds the contents, in the order of `Content.container`; read after the files.
        files: Path in the stand-in folder, with slashes, and content.
    """
    connection = sqlite3.connect(folder / INDEX)
    try:
        connection.executescript(_SCHEMA)
        rows = ((name, each.container, each.start, each.size, each.part) for name, each in files)
        connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", rows)
        numbered = ((number, each.kind, each.address, each.version) for number, each in enumerate(containers))
        connection.executemany("INSERT INTO containers VALUES (?, ?, ?, ?)", numbered)
        connection.executemany("INSERT INTO facts VALUES (?, ?)", [("origin", origin), ("limit", str(limit))])
        connection.commit()
    finally:
        connection.close()


def set_limit(folder: Path, limit: int) -> None:
    """States another size of the cache for a stand-in folder that exists."""
    connection = sqlite3.connect(folder / INDEX)
    try:
        connection.execute("UPDATE facts SET value = ? WHERE name = 'limit'", (str(limit),))
        connection.commit()
    finally:
        connection.close()


@lru_cache(maxsize=8)
def _resolve_root(cache: str) -> str:
    return os.path.join(os.path.realpath(cache), "sets")


def _split(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Key of the set and path in it, with slashes; None for files of no set."""
    text = os.fspath(path)
    root = _resolve_root(find_cache_path())
    if not isinstance(text, str) or not text.startswith(root):
        return None
    key, _, name = text[len(root) + 1 :].partition(os.sep)
    return (key, os.path.normpath(name).replace(os.sep, "/")) if name else None


def _find(path: str | os.PathLike[str]) -> _Placeholder | None:
    parts = _split(path)
    if parts is None:
        return None
    key, name = parts
    last: _Placeholder | None = getattr(_local, "placeholder", None)
    if last is not None and (last.key, last.path) == parts:
        return last
    connection = _connect_index(key)
    query = "SELECT container, start, size, part FROM files WHERE name = ?"
    row = None if connection is None else connection.execute(query, (name,)).fetchone()
    if connection is None or row is None:
        return None
    content = Content(*row)
    query = "SELECT kind, address, version FROM containers WHERE id = ?"
    container = Container(*connection.execute(query, (content.container,)).fetchone())
    limit = int(connection.execute("SELECT value FROM facts WHERE name = 'limit'").fetchone()[0])
    _local.placeholder, _local.content = _Placeholder(key, name, container, content, limit), None
    found: _Placeholder = _local.placeholder
    return found


def _fetch(placeholder: _Placeholder) -> bytes:
    """The content of a placeholder, which `_find` has made the current one of this thread."""
    content: bytes | None = _local.content
    if content is not None:
        return content
    from densevision.io.containers import fetch_content

    cache = get_stand_in_root().parent / "contents"
    content = fetch_content(placeholder.container, placeholder.content, cache, placeholder.limit)
    if not content:
        raise DataError("the file is empty (0 bytes)", file=get_stand_in_root() / placeholder.key / placeholder.path)
    _local.content = content
    return content


def _is_worth_remembering(placeholder: _Placeholder) -> bool:
    """Whether the content is far away; headers in local tars are read as fast as a database."""
    return placeholder.container.kind != "tar" or "://" in placeholder.container.address


def _connect_index(key: str) -> sqlite3.Connection | None:
    file = get_stand_in_root() / key / INDEX
    return _connect(file, lambda: sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) if file.exists() else None


def _connect_sizes(key: str) -> sqlite3.Connection:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, timeout=60, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")  # they can be measured again
        query = "CREATE TABLE IF NOT EXISTS sizes (name TEXT PRIMARY KEY, height INTEGER, width INTEGER) WITHOUT ROWID"
        connection.execute(query)
        return connection

    file = get_stand_in_root() / key / SIZES
    return _connect(file, connect)


def _connect(file: Path, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """A connection of this thread and process: a forked process must not use its parent's."""
    owner = os.getpid(), threading.get_ident()
    if getattr(_local, "owner", None) != owner:
        _local.owner, _local.connections = owner, {}
    connections: dict[Path, Any] = _local.connections
    if file not in connections:
        connections[file] = connect()
    connection: sqlite3.Connection = connections[file]
    return connection


def _name_origin(file: str) -> str | None:
    """A file of a stand-in folder as its user knows it: below the address or the path of the set; None for others."""
    parts = _split(file)
    connection = _connect_index(parts[0]) if parts is not None else None
    if parts is None or connection is None:
        return None
    origin: str = connection.execute("SELECT value FROM facts WHERE name = 'origin'").fetchone()[0]
    _, _, name = parts[1].partition("/")
    return f"{origin.rstrip('/')}/{name}" if name else origin


rename_files_in_errors(_name_origin)
