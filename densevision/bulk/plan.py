"""What a bulk prediction reads: every image of the sources by its address, before any is opened."""

from __future__ import annotations

import glob
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from densevision.errors import DataError, UsageError
from densevision.io import remote
from densevision.io.image_files import IMAGE_SUFFIXES, is_system_file
from densevision.optional_packages import import_optional

__all__ = ["Item", "list_items", "make_chunks", "open_anywhere"]

TAR, PARQUET, LIST = ".tar", ".parquet", ".txt"
CONTAINERS = (TAR, PARQUET)
WEB = ("http://", "https://")
LISTED_AT_ONCE = 16
"""Archives and tables whose contents are listed at a time."""
MAX_ROWS, MAX_BYTES = 32, 32 << 20
"""Size of a chunk, which one task reads: images, and bytes of their files where these are known."""
MAX_GROUP_ROWS = 1024
"""Rows of one row group of a table that one task reads: what is read of a table is a whole row group."""
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content")
PATH_COLUMNS = ("uri", "url", "path", "file", "file_name", "filename", "image")
"""Names of columns that hold images or their addresses, in the order in which they are looked for."""

Kind = Literal["file", "tar", "parquet"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        source: Its address, which no other has: of a member of an archive `tar://MEMBER::ARCHIVE`, of a row of a table
            `TABLE#row=N`.
        name: Its path below the source, without suffix.
        file: Address or path of the file that is read.
        kind: What that file is.
        start: Of an archive: the first byte; of a table: the row group.
        length: Of an archive: the number of bytes; of a table: the row in the row group; of a file: its size, or -1.
        column: Of a table: the column of the image.
    """

    source: str
    name: str
    file: str
    kind: Kind = "file"
    start: int = 0
    length: int = -1
    column: str = ""


def list_items(sources: Sequence[str], column: str | None = None) -> list[Item]:
    """Lists the images of files, folders, patterns, WebDataset archives, parquet tables and lists of addresses.

    Args:
        sources: Paths or addresses. A folder or pattern holds images, `.tar` and `.parquet`; a `.txt` has an address in
            each line.
        column: Column of the images in tables: encoded images, or their addresses; found by name by default.

    Returns:
        The images, each once, in the order of the sources; files of a folder in the order of their addresses.

    Raises:
        DataError: A source does not exist, or holds no image.
        UsageError: No column of a table holds images.
    """
    files = [entry for source in sources for entry in _list_source(os.fspath(source))]
    with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
        parts = pool.map(lambda entry: _open_container(entry[0], entry[1], entry[2], column), files)
        items = {item.source: item for part in parts for item in part}
    if not items:
        raise DataError("no image in these sources", value=list(sources)[:3])
    return list(items.values())


def make_chunks(items: Sequence[Item]) -> list[Any]:
    """Arrow tables of consecutive items, each of which one task reads."""
    pyarrow = import_optional("pyarrow", "bulk prediction")
    fields = list(Item.__dataclass_fields__)
    return [
        pyarrow.Table.from_pydict(dict(zip(fields, zip(*(astuple(item) for item in chunk))))) for chunk in _split(items)
    ]


def _split(items: Sequence[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    total = 0
    for item in items:
        size = item.length if item.kind != "parquet" else 0
        first = chunk[0] if chunk else item
        limit = MAX_GROUP_ROWS if first.kind == "parquet" else MAX_ROWS
        is_other_file = item.kind != first.kind or (item.kind != "file" and item.file != first.file)
        is_other_group = item.kind == "parquet" and item.start != first.start
        if chunk and (is_other_file or is_other_group or len(chunk) == limit or total + size > MAX_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += max(size, 0)
    if chunk:
        yield chunk


def _list_source(source: str) -> list[tuple[str, str, int]]:
    """Files of a source: (path or address, name below the source with suffix, size or -1)."""
    suffixes = IMAGE_SUFFIXES + CONTAINERS
    if not source:
        raise DataError("the source is an empty string", field="source", value=source)
    if source.lower().endswith(LIST):
        lines = _read_text(source).splitlines()
        return [entry for line in lines if line.strip() for entry in _list_source(line.strip())]
    if remote.has_scheme(source):
        found = _list_addresses(source, suffixes)
    else:
        found = _list_paths(source, suffixes)
    if not found:
        raise DataError("no image, .tar or .parquet here", file=source, hint=f"Images are {', '.join(IMAGE_SUFFIXES)}.")
    return found


def _list_addresses(source: str, suffixes: tuple[str, ...]) -> list[tuple[str, str, int]]:
    if source.lower().startswith(WEB):  # where ? begins a query, and folders cannot be listed
        return [(source, PurePosixPath(urlsplit(source).path).name, -1)]
    if glob.has_magic(source.partition("://")[2]):
        files = remote.glob_files(source, suffixes)
        pattern = PurePosixPath(source.partition("://")[2])
        depth = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
        names = ["/".join(_split_address(file.address)[depth:]) for file in files]
    elif not source.lower().endswith(suffixes) and remote.is_folder(source):
        files = remote.list_files(source, suffixes)
        depth = len(_split_address(source.rstrip("/")))
        names = ["/".join(_split_address(file.address)[depth:]) for file in files]
    else:
        return [(source, source.rsplit("/", 1)[-1], -1)]
    return [
        (file.address, name, file.size)
        for file, name in zip(files, names)
        if not any(map(is_system_file, name.split("/")))
    ]


def _split_address(address: str) -> list[str]:
    return [part for part in address.partition("://")[2].split("/") if part]


def _list_paths(source: str, suffixes: tuple[str, ...]) -> list[tuple[str, str, int]]:
    path = Path(source).absolute()
    if path.is_dir():
        root, paths = path, list(_walk(path))
    elif path.is_file():
        return [(os.fspath(path), path.name, path.stat().st_size)]
    elif glob.has_magic(source):
        parts = path.parts
        root = Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])
        paths = [Path(file) for file in glob.glob(os.fspath(path), recursive=True) if os.path.isfile(file)]
    else:
        raise DataError("there is no such file or folder", file=source)
    return [
        (os.fspath(file), file.relative_to(root).as_posix(), file.stat().st_size)
        for file in sorted(paths)
        if file.name.lower().endswith(suffixes)
    ]


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_system_file(name)]
        yield from (Path(root, name) for name in names if not is_system_file(name))


def _open_container(file: str, name: str, size: int, column: str | None) -> list[Item]:
    stem = PurePosixPath(name).with_suffix("").as_posix()
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == TAR:
        return _list_tar(file, stem)
    if suffix == PARQUET:
        return _list_table(file, stem, column)
    return [Item(file, stem, file, length=size)]


def _list_tar(file: str, stem: str) -> list[Item]:
    """The images of an archive, found by its headers: the contents are skipped."""
    items = []
    try:
        with open_anywhere(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                inner = PurePosixPath(member.name)
                is_image = member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES)
                if is_image and not any(map(is_system_file, inner.parts)):
                    name = f"{stem}/{inner.with_suffix('').as_posix()}"
                    source = f"tar://{member.name}::{file}"
                    items.append(Item(source, name, file, "tar", member.offset_data, member.size))
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"not an archive that can be read: {error}", file=file, hint="Archives are plain .tar."
        ) from None
    return items


def _list_table(file: str, stem: str, column: str | None) -> list[Item]:
    """The rows of a table with encoded images, or the images whose addresses it holds."""
    pyarrow = import_optional("pyarrow", "bulk prediction")
    parquet = import_optional("pyarrow.parquet", "bulk prediction")
    try:
        with open_anywhere(file) as stream:
            table = parquet.ParquetFile(stream)
            chosen = _choose_column(table.schema_arrow, file, column)
            if pyarrow.types.is_string(table.schema_arrow.field(chosen).type):
                texts = table.read([chosen])[chosen].to_pylist()
                files = [_resolve(text, file) for text in texts if text is not None]
                return [Item(each, PurePosixPath(each).with_suffix("").name, each) for each in files]
            counts = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not a parquet file that can be read: {error}", file=file) from None
    items: list[Item] = []
    for group, count in enumerate(counts):
        for row in range(count):
            number = len(items)
            items.append(Item(f"{file}#row={number}", f"{stem}/{number:06d}", file, "parquet", group, row, chosen))
    return items


def _choose_column(schema: Any, file: str, column: str | None) -> str:
    """The column of images: bytes, a struct with bytes as the Hugging Face libraries write it, or texts."""
    types = import_optional("pyarrow", "bulk prediction").types

    def holds_bytes(kind: Any) -> bool:
        is_struct = types.is_struct(kind) and any(field.name == "bytes" for field in kind)
        return is_struct or types.is_binary(kind) or types.is_large_binary(kind)

    kinds = {field.name: field.type for field in schema}
    with_bytes = [name for name, kind in kinds.items() if holds_bytes(kind)]
    texts = [name for name, kind in kinds.items() if types.is_string(kind)]
    if column is not None:
        if column in with_bytes or column in texts:
            return column
        raise UsageError("no such column of images", file=file, field="column", value=column, hint=f"Has {[*kinds]}.")
    ordered = [name for name in IMAGE_COLUMNS if name in with_bytes] + with_bytes
    ordered += [name for name in PATH_COLUMNS if name in texts]
    if not ordered:
        hint = f"Name it with column; the table has {[*kinds]}."
        raise UsageError("no column of images found", file=file, field="column", hint=hint)
    return ordered[0]


def _resolve(text: str, table: str) -> str:
    """An address in a table: as it is, or relative to the folder of the table."""
    if remote.has_scheme(text) or os.path.isabs(text):
        return text
    return remote.join_address(table.rpartition("/")[0], text)


def open_anywhere(file: str, timeout: float = remote.TIMEOUT) -> Any:
    """Opens a path or an address for reading."""
    return remote.open_file(file, timeout) if remote.has_scheme(file) else open(file, "rb")


def _read_text(source: str) -> str:
    try:
        data = remote.read_bytes(source) if remote.has_scheme(source) else Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {os.strerror(error.errno or 0)}", file=source) from None
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="replace").read()
