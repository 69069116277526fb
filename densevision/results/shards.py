"""Predictions in parquet files, `part-*.parquet` of a folder, as bulk prediction writes them. Needs no torch."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io import remote
from densevision.optional_packages import import_optional
from densevision.results.base import Result
from densevision.results.columns import decode_cells, list_columns

__all__ = [
    "SHARD_PATTERN",
    "StoredPrediction",
    "encode_shard",
    "list_shards",
    "make_schema",
    "parse_type",
    "read_column",
    "read_predictions",
    "read_shard",
]

SHARD_PATTERN = "part-*.parquet"
METADATA_KEY = b"densevision"
COMMON_COLUMNS = {
    "source": "string",
    "name": "string",
    "sha256": "string",
    "width": "int32",
    "height": "int32",
    "error": "string",
}
"""Columns of every task, before those of the record."""
ROWS_PER_STEP = 64
"""Rows that are decoded at a time."""
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class StoredPrediction:
    """A row: a prediction, or why there is none.

    Attributes:
        source: Address or path of the image.
        name: Path of the image below the source that was predicted, without suffix.
        sha256: Hash of the image file in hexadecimal; None if it could not be read.
        size: (height, width) of the image; None if it could not be decoded.
        error: Why there is no prediction, or None.
        result: The prediction, or None.
    """

    source: str
    name: str
    sha256: str | None
    size: tuple[int, int] | None
    error: str | None
    result: Result | None


def read_predictions(folder: PathLike, kinds: Mapping[str, type[Result]] | None = None) -> Iterator[StoredPrediction]:
    """Reads the predictions of a folder of bulk prediction, shard by shard.

    Args:
        folder: A folder with `part-*.parquet`, or one such file; a path or an address.
        kinds: Classes of records of other packages, by name.

    Raises:
        DataError: There is no such file, or one is damaged or of another kind.
    """
    shards = list_shards(folder)
    if not shards:
        raise DataError("no predictions in this folder", file=folder, hint=f"They are in {SHARD_PATTERN}.")
    for shard in shards:
        yield from read_shard(shard, kinds)


def list_shards(folder: PathLike) -> list[str]:
    """Paths or addresses of the shards in a folder, sorted; the given one, if it is a file."""
    name = os.fspath(folder)
    if remote.has_scheme(name):
        if name.endswith(".parquet"):
            return [name]
        return [file.address for file in remote.glob_files(remote.join_address(name, SHARD_PATTERN))]
    return [name] if Path(name).is_file() else sorted(os.fspath(path) for path in Path(name).glob(SHARD_PATTERN))


def read_shard(
    shard: str, kinds: Mapping[str, type[Result]] | None = None, data: bytes | None = None
) -> Iterator[StoredPrediction]:
    """Reads the predictions of one file, a few rows at a time.

    Args:
        shard: Its path or address.
        kinds: Classes of records of other packages, by name.
        data: Its content, if that is known.
    """
    with _open(shard, data) as file:
        constants = _read_constants(file, shard)
        for number, cells in enumerate(_iterate_cells(file, shard)):
            try:
                yield _decode_row(constants, cells, kinds)
            except DataError as error:
                place = f"row {number}, {error.field}" if error.field else f"row {number}"
                raise DataError(error.problem, file=shard, field=place, hint=error.hint) from None


def _iterate_cells(file: Any, shard: str) -> Iterator[dict[str, Any]]:
    """The rows as plain Python."""
    pyarrow = _import_pyarrow()
    try:
        for batch in file.iter_batches(ROWS_PER_STEP):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"a damaged parquet file: {error}", file=shard) from None


def read_column(shard: str, name: str) -> Any:
    """A column of a file as an Arrow array."""
    with _open(shard) as file:
        _read_constants(file, shard)
        try:
            return file.read([name])[name]
        except (_import_pyarrow().ArrowException, OSError) as error:
            raise DataError(f"a damaged parquet file: {error}", file=shard) from None


def make_schema(task: str, constants: Mapping[str, Any], kinds: Mapping[str, type[Result]] | None = None) -> Any:
    """The Arrow schema of the shards of a task.

    Args:
        task: Name of the task.
        constants: From `results.columns.describe_constants`.
        kinds: Classes of records of other packages, by name.
    """
    pyarrow = _import_pyarrow()
    columns = {**COMMON_COLUMNS, **list_columns(constants, kinds)}
    fields = [pyarrow.field(name, parse_type(kind)) for name, kind in columns.items()]
    description = {"task": task, "format": 1, "constants": constants}
    return pyarrow.schema(fields, metadata={METADATA_KEY: json.dumps(description).encode()})


def encode_shard(table: Any) -> bytes:
    """The bytes of a shard that holds an Arrow table of the schema of `make_schema`."""
    parquet = import_optional("pyarrow.parquet", "bulk prediction")
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd", row_group_size=ROWS_PER_STEP * 4)
    return stream.getvalue()


def _decode_row(constants: Mapping[str, Any], cells: dict[str, Any], kinds: Any) -> StoredPrediction:
    size = None if cells["width"] is None or cells["height"] is None else (cells["height"], cells["width"])
    for name in ("source", "name"):
        if not isinstance(cells[name], str):
            raise DataError("must be a text", field=name, value=cells[name])
    result = None
    if cells["error"] is None:
        if size is None or min(size) < 1:
            raise DataError("a row without error and without size", field="width", value=size)
        result = decode_cells(constants, cells, size, cells["source"], kinds)
    return StoredPrediction(cells["source"], cells["name"], cells["sha256"], size, cells["error"], result)


def _open(shard: str, data: bytes | None = None) -> Any:
    """An opened parquet file."""
    pyarrow = _import_pyarrow()
    parquet = import_optional("pyarrow.parquet", "bulk prediction")
    try:
        if data is not None:
            return parquet.ParquetFile(io.BytesIO(data))
        return parquet.ParquetFile(remote.open_file(shard) if remote.has_scheme(shard) else shard)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a parquet file: {error}", file=shard) from None


def _read_constants(file: Any, shard: str) -> dict[str, Any]:
    text = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    absent = [name for name in COMMON_COLUMNS if name not in file.schema_arrow.names]
    try:
        constants = None if text is None or absent else json.loads(text)["constants"]
    except (ValueError, KeyError, TypeError, RecursionError):
        constants = None
    if not isinstance(constants, dict) or not isinstance(constants.get("result"), str):
        raise DataError("not a file of bulk prediction", file=shard, hint="Give the folder that predict wrote.")
    return constants


def parse_type(text: str) -> Any:
    """An Arrow type from its notation.

    >>> str(parse_type("list<list<float>>")).replace("element", "item")
    'list<item: list<item: float>>'
    """
    pyarrow = _import_pyarrow()
    if text.startswith("list<"):
        return pyarrow.list_(parse_type(text[5:-1]))
    if text.startswith("struct<"):
        pairs = (part.split(": ") for part in text[7:-1].split(", "))
        return pyarrow.struct([(name, parse_type(kind)) for name, kind in pairs])
    return pyarrow.type_for_alias(text)


def _import_pyarrow() -> Any:
    return import_optional("pyarrow", "bulk prediction")
