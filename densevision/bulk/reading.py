"""The stage of a bulk prediction that reads, hashes and decodes: a chunk of addresses in, decoded images out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from densevision.bulk.plan import open_anywhere
from densevision.errors import DataError
from densevision.io import remote
from densevision.io.image import convert_channels, load_image
from densevision.optional_packages import import_optional

__all__ = ["ImageReader", "pack_image", "unpack_image"]

READ_AT_ONCE = 8
"""Files that a task requests at a time: stores respond slowly, but to many."""
MAX_BYTES = 32 << 20
"""Decoded images that are passed on together."""


class ImageReader:
    """Reads a chunk of items.

    Args:
        channels: Channels of the model, into which an image must be convertible.
        max_pixels: Larger images are refused.
        timeout: Seconds per attempt to read from a store.
    """

    def __init__(self, channels: int, max_pixels: int, timeout: float = remote.TIMEOUT):
        self.channels, self.max_pixels, self.timeout = channels, max_pixels, timeout

    def __call__(self, chunk: Any) -> Iterator[Any]:
        """Reads the images of an Arrow table of items.

        Yields:
            Arrow tables with source, name, sha256, error and image, a few images each.
        """
        rows: list[dict[str, Any]] = []
        size = 0
        for item, data in self._read(chunk.to_pylist()):
            row = self._decode(item, data)
            rows.append(row)
            size += 0 if row["image"] is None else row["image"]["data"].nbytes
            if size >= MAX_BYTES:
                yield _make_table(rows)
                rows, size = [], 0
        if rows:
            yield _make_table(rows)

    def _read(self, items: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes | DataError]]:
        kind = items[0]["kind"]
        if kind == "tar":
            yield from zip(items, self._read_members(items))
        elif kind == "parquet":
            yield from zip(items, self._read_cells(items))
        else:
            with ThreadPoolExecutor(READ_AT_ONCE) as pool:
                yield from zip(items, pool.map(lambda item: self._read_file(item["file"]), items))

    def _read_file(self, file: str, start: int | None = None, end: int | None = None) -> bytes | DataError:
        try:
            if remote.has_scheme(file):
                return remote.read_bytes(file, start, end, timeout=self.timeout)
            with open(file, "rb") as stream:
                stream.seek(start or 0)
                return stream.read(-1 if end is None else end - (start or 0))
        except OSError as error:
            return DataError(f"cannot be read: {os.strerror(error.errno or 0)}", file=file)
        except DataError as error:
            return error

    def _read_members(self, items: list[dict[str, Any]]) -> list[bytes | DataError]:
        """Consecutive members of one archive by one request."""
        start = items[0]["start"]
        data = self._read_file(items[0]["file"], start, items[-1]["start"] + items[-1]["length"])
        if isinstance(data, DataError):
            return [data] * len(items)
        parts: list[bytes | DataError] = []
        for item in items:
            part = data[item["start"] - start : item["start"] - start + item["length"]]
            is_whole = len(part) == item["length"]
            parts.append(part if is_whole else DataError("the archive is shorter than before", file=item["file"]))
        return parts

    def _read_cells(self, items: list[dict[str, Any]]) -> list[bytes | DataError]:
        """Rows of one row group of a table."""
        parquet = import_optional("pyarrow.parquet", "bulk prediction")
        file, column = items[0]["file"], items[0]["column"]
        try:
            with open_anywhere(file, self.timeout) as stream:
                table = parquet.ParquetFile(stream).read_row_group(items[0]["start"], [column])
            cells = table[column].to_pylist()
        except DataError as error:
            return [error] * len(items)
        except (OSError, ValueError) as error:  # errors of Arrow are among them
            return [DataError(f"cannot be read: {error}", file=file)] * len(items)
        chosen = [cells[item["length"]] for item in items]
        found = [cell["bytes"] if isinstance(cell, dict) else cell for cell in chosen]
        return [DataError("the cell of the image is empty", file=file) if cell is None else cell for cell in found]

    def _decode(self, item: dict[str, Any], data: bytes | DataError) -> dict[str, Any]:
        row = {"source": item["source"], "name": item["name"], "sha256": None, "error": None, "image": None}
        if isinstance(data, DataError):
            return row | {"error": data.problem}
        row["sha256"] = hashlib.sha256(data).hexdigest()
        try:
            image = load_image(data, self.max_pixels)
            convert_channels(image[:1, :1], self.channels)
        except DataError as error:
            return row | {"error": error.problem}
        return row | {"image": pack_image(image)}


def pack_image(image: np.ndarray) -> dict[str, Any]:
    """An image as a cell of a table, whatever its size and type."""
    data = np.ascontiguousarray(image)
    return {"data": data.reshape(-1).view(np.uint8), "shape": list(data.shape), "dtype": data.dtype.str}


def unpack_image(cell: Any) -> np.ndarray | None:
    """The image of an Arrow cell of `pack_image`, without a copy; None where there is none."""
    if not cell.is_valid:
        return None
    data = np.frombuffer(cell["data"].as_buffer(), np.dtype(cell["dtype"].as_py()))
    return data.reshape(cell["shape"].as_py())


def _make_table(rows: list[dict[str, Any]]) -> Any:
    pyarrow = import_optional("pyarrow", "bulk prediction")
    text = pyarrow.string()
    image = pyarrow.struct(
        [("data", pyarrow.large_binary()), ("shape", pyarrow.list_(pyarrow.int32())), ("dtype", text)]
    )
    columns = {name: [row[name] for row in rows] for name in ("source", "name", "sha256", "error")}
    packed = [row["image"] and {**row["image"], "data": row["image"]["data"].data} for row in rows]
    arrays = [pyarrow.array(values, text) for values in columns.values()] + [pyarrow.array(packed, image)]
    return pyarrow.Table.from_arrays(arrays, names=[*columns, "image"])
