"""Writes a dataset's folder as shards: tars as WebDataset has them, or Parquet files."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.shards.parquet_rows import FILES_MARK, IMAGE_COLUMN, LABEL_COLUMN
from densevision.datasets.shards.stand_in import is_label
from densevision.errors import DataError, UsageError
from densevision.io.image_files import is_system_file
from densevision.io.placeholders import get_size, open_binary
from densevision.io.progress import track_progress
from densevision.optional_packages import import_optional
from densevision.run_config import DataConfig

__all__ = ["SHARD_WRITERS"]

SHARD_BYTES = 512 << 20
"""Size from which a new shard begins."""
GROUP_BYTES, GROUP_ROWS = 8 << 20, 64
"""Sizes of a row group of Parquet, which is read as a whole."""


def write_tars(source: str, out: Path) -> None:
    """Writes a dataset as tars, with the paths of its files in it.

    Args:
        source: A folder, shards, or an address.
        out: A new folder.

    Raises:
        UsageError: The source is no folder.
        DataError: A file cannot be read.
    """
    for number, files in enumerate(_divide(_list_files(source))):
        with tarfile.open(out / f"shard-{number:06d}.tar", "w") as archive:
            for name, path in files:
                content = _read(path)
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_parquet(source: str, out: Path) -> None:
    """Writes a dataset as Parquet files, of which each row is a file; see `write_tars`.

    Images are in a column that Hugging Face's viewer shows; they are not compressed again.
    """
    pyarrow = import_optional("pyarrow", "writing Parquet")
    parquet = import_optional("pyarrow.parquet", "writing Parquet")
    cell = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = '{"info": {"features": {"image": {"_type": "Image"}}}}'
    metadata = {FILES_MARK: b"files", b"huggingface": features.encode()}
    schema = pyarrow.schema([(IMAGE_COLUMN, cell), (LABEL_COLUMN, cell)], metadata)
    for number, files in enumerate(_divide(_list_files(source))):
        file = out / f"shard-{number:06d}.parquet"
        with closing(parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False)) as writer:
            for rows in _group(files):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _list_files(source: str) -> list[tuple[str, str]]:
    """Path in the dataset, with slashes, and path on this machine, of all files that are not hidden."""
    root = locate_dataset(DataConfig(path=source))
    if not os.path.isdir(root):
        raise UsageError("is not a folder", field="source", value=source, hint="Name the folder of the dataset.")
    files = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        paths = [os.path.join(parent, name) for name in sorted(names) if not is_system_file(name)]
        files += [(os.path.relpath(path, root).replace(os.sep, "/"), path) for path in paths]
    if not files:
        raise DataError("holds no file", file=source)
    return files


def _divide(files: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Divides files into shards by their sizes."""
    shard: list[tuple[str, str]] = []
    total = 0
    for name, path in track_progress(files, "writing"):
        shard.append((name, path))
        total += get_size(path)
        if total >= SHARD_BYTES:
            yield shard
            shard, total = [], 0
    if shard:
        yield shard


def _group(files: list[tuple[str, str]]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    total = 0
    for name, path in files:
        content = _read(path)
        column, other = (LABEL_COLUMN, IMAGE_COLUMN) if is_label(name) else (IMAGE_COLUMN, LABEL_COLUMN)
        rows.append({column: {"bytes": content, "path": name}, other: None})
        total += len(content)
        if total >= GROUP_BYTES or len(rows) == GROUP_ROWS:
            yield rows
            rows, total = [], 0
    if rows:
        yield rows


def _read(path: str) -> bytes:
    try:
        with open_binary(path) as stream:
            return stream.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path) from None


SHARD_WRITERS = {"webdataset": write_tars, "parquet": write_parquet}
"""Target format -> function that writes it from a source into a new folder."""
