"""Contents of files that lie in shards or in remote storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from densevision.errors import DataError
from densevision.io import remote
from densevision.io.content_cache import ContentCache, make_key
from densevision.io.image_errors import CorruptImageError
from densevision.io.places import Container, Content
from densevision.optional_packages import import_optional

__all__ = ["fetch_content", "iterate_cells", "open_container", "open_parquet"]

BATCH_ROWS = 16
"""Rows of a Parquet file that are in memory at a time."""


def fetch_content(container: Container, content: Content, cache_folder: Path, limit: int) -> bytes:
    """Reads a content, from the cache if it is there. Local tars are read directly.

    Args:
        container: What holds it.
        content: Where it lies there.
        cache_folder: The cache of contents.
        limit: Size of the cache in bytes.

    Raises:
        CorruptImageError: The shard ends before the content does.
        DataError: The shard is missing or damaged, or the storage does not respond or refuses.
    """
    if container.kind == "tar" and not remote.has_scheme(container.address):
        return _read_range(container.address, content)
    cache = ContentCache(cache_folder, limit)
    if container.kind == "parquet":
        return _fetch_cell(container, content, cache)
    key = make_key(container.address, container.version, content.start, content.size, content.part)
    cached = cache.get(key)
    if cached is not None:
        return cached
    data = _read_remote(container, content)
    cache.put(key, data)
    return data


def open_container(address: str) -> BinaryIO:
    """Opens a shard for reading with random access.

    Raises:
        DataError: There is no such file, it cannot be read, or the storage does not respond or refuses.
    """
    if remote.has_scheme(address):
        stream: BinaryIO = remote.open_file(address)
        return stream
    try:
        return open(address, "rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=address) from None


def open_parquet(stream: BinaryIO, address: str) -> Any:
    """Opens a Parquet file as `pyarrow.parquet.ParquetFile`.

    Raises:
        DataError: It is no Parquet file, or is cut short.
    """
    parquet = import_optional("pyarrow.parquet", "reading Parquet")
    pyarrow = import_optional("pyarrow", "reading Parquet")
    try:
        # Buffered: otherwise a whole column of a row group is read at once.
        return parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except pyarrow.ArrowException:
        hint = "Download or write it again."
        raise DataError("not a Parquet file, or it is cut short", file=address, hint=hint) from None


def iterate_cells(file: Any, columns: list[str], address: str, row_groups: list[int] | None = None) -> Iterator[dict]:
    """Yields rows as dicts with these columns, a few at a time.

    Raises:
        DataError: The file is damaged.
    """
    pyarrow = import_optional("pyarrow", "reading Parquet")
    groups = {} if row_groups is None else {"row_groups": row_groups}
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False, **groups):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", file=address) from None


def _read_range(address: str, content: Content) -> bytes:
    with open_container(address) as stream:
        stream.seek(content.start)
        data = stream.read(content.size)
    return _check_length(data, address, content)


def _read_remote(container: Container, content: Content) -> bytes:
    if container.kind == "tar":
        stop = content.start + content.size
        return _check_length(remote.read_bytes(container.address, content.start, stop), container.address, content)
    name, _, _ = content.part.partition("\0")
    return remote.read_bytes(remote.join_address(container.address, name) if name else container.address)


def _check_length(data: bytes, address: str, content: Content) -> bytes:
    if len(data) != content.size:
        problem = f"the shard ends after {len(data):,} of the {content.size:,} bytes of this file"
        raise CorruptImageError(problem, file=address, hint="Download or write the shard again.")
    return data


def _fetch_cell(container: Container, content: Content, cache: ContentCache) -> bytes:
    """Reads the cell of a column; the other rows of its row group, which are read on the way, go into the cache."""

    def name(row: int) -> str:
        return make_key(container.address, container.version, content.part, row)

    cached = cache.get(name(content.start))
    if cached is not None:
        return cached
    with open_container(container.address) as stream:
        file = open_parquet(stream, container.address)
        group, first = _find_row_group(file, content.start)
        # Of several processes one reads the row group, and the others find it in the cache.
        with cache.lock(f"group-{make_key(container.address)[:8]}-{group}"):
            cached = cache.get(name(content.start))
            if cached is not None:
                return cached
            found = None
            for row, cells in enumerate(iterate_cells(file, [content.part], container.address, [group]), first):
                data = (cells[content.part] or {}).get("bytes") or b""
                found = data if row == content.start else found
                if data:
                    cache.put(name(row), data)
    if not found:
        problem = "this row has no bytes"
        raise DataError(problem, file=container.address, field=content.part, value=content.start)
    return found


def _find_row_group(file: Any, row: int) -> tuple[int, int]:
    """The row group that holds a row, and the first row of it."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row < first + count:
            return group, first
        first += count
    raise AssertionError("the index was made from this file")
