"""PNG files written strip by strip, so that an image never has to lie in memory as a whole.

Source: the PNG specification (W3C), third edition, sections 5, 9 and 10.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from densevision.errors import DataError
from densevision.io.atomic_write import whole

LEVEL = 3
"""Of the compression: beyond, images become hardly smaller and much slower to write."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = {1: 0, 3: 2, 4: 6}
"""Channels -> PNG's color type: gray, RGB, RGBA."""
_UP = 2
"""The filter that keeps of each row its difference from the row above."""


def write_png(path: str | os.PathLike[str], strips: Iterable[np.ndarray], size: tuple[int, int]) -> None:
    """Writes an image whole or not at all, from rows that are asked for as they are written.

    Args:
        path: The file.
        strips: (rows, W, C) each, from the top down: uint8 or uint16, C = 1, 3 or 4.
        size: (height, width) of the whole.

    Raises:
        DataError: A strip is nothing of this kind, or the strips do not add up to the size.
    """
    with whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(_SIGNATURE)
        packer, above, rows = zlib.compressobj(LEVEL), None, 0
        for strip in strips:
            if above is None:
                _write_header(stream, strip, size)
            elif strip[0].nbytes != above.nbytes:
                raise DataError("the strips of an image differ", file=path, value=strip.shape)
            filtered, above = _filtered(strip, above)
            _chunk(stream, b"IDAT", packer.compress(filtered))
            rows += len(strip)
        if rows != size[0]:
            raise DataError("the strips do not add up to the image", file=path, value=f"{rows} of {size[0]} rows")
        _chunk(stream, b"IDAT", packer.flush())
        _chunk(stream, b"IEND", b"")


def _write_header(stream: BinaryIO, strip: np.ndarray, size: tuple[int, int]) -> None:
    if strip.ndim != 3 or strip.dtype not in (np.uint8, np.uint16) or strip.shape[2] not in _COLORS:
        raise DataError("PNG cannot hold this image", value=f"{strip.shape} {strip.dtype}")
    height, width = size
    bits = 8 * strip.dtype.itemsize
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _COLORS[strip.shape[2]], 0, 0, 0))


def _filtered(strip: np.ndarray, above: np.ndarray | None) -> tuple[bytes, np.ndarray]:
    """The rows as they are compressed, and the last one for the strip below."""
    pixels = np.ascontiguousarray(strip.astype(strip.dtype.newbyteorder(">"), copy=False))
    lines = pixels.view(np.uint8).reshape(len(strip), -1)
    first = np.zeros_like(lines[:1]) if above is None else above[None]
    differences = lines - np.concatenate([first, lines[:-1]])  # modulo 256, as the filter wants it
    marked = np.concatenate([np.full((len(strip), 1), _UP, np.uint8), differences], 1)
    return marked.tobytes(), lines[-1].copy()


def _chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
