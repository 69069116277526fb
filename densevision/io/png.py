"""Writes PNG files strip by strip, so that an image never needs to be in memory as a whole.

Source: the PNG specification (W3C), third edition, sections 5, 9 and 10.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from densevision.errors import DataError
from densevision.io.atomic_write import atomic_write
from densevision.io.image_metadata import ImageMetadata

__all__ = ["write_png"]

COMPRESSION_LEVEL = 3
"""zlib level; higher levels are much slower and hardly smaller for photos."""
METERS_PER_INCH = 0.0254
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""Number of channels -> PNG color type: gray, RGB, RGBA."""
_FILTER_UP = 2
"""PNG's filter "Up", which stores the difference of each row from the row above."""


def write_png(
    path: str | os.PathLike[str],
    strips: Iterable[np.ndarray],
    size: tuple[int, int],
    metadata: ImageMetadata | None = None,
    is_fast: bool = False,
) -> None:
    """Writes an image atomically, from strips of rows that are consumed one by one.

    Args:
        path: The file.
        strips: (rows, W, C) each, from top to bottom: uint8 or uint16, C = 1, 3 or 4.
        size: (height, width) of the whole image.
        metadata: Color profile and resolution.
        is_fast: Compress runs of equal bytes only, which takes half the time; photos become a few percent larger.

    Raises:
        DataError: A strip has an unsupported shape or type, or the strips do not add up to the size.
    """
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        stream.write(_SIGNATURE)
        compressor = zlib.compressobj(1, strategy=zlib.Z_RLE) if is_fast else zlib.compressobj(COMPRESSION_LEVEL)
        rows = 0
        last_row: np.ndarray | None = None
        for strip in strips:
            if last_row is None:
                _write_header(stream, strip, size)
                stream.write(_encode_metadata(metadata, strip.shape[2]))
            elif strip[0].nbytes != last_row.nbytes:
                raise DataError("strips of different widths or types", file=path, value=strip.shape)
            filtered, last_row = _filter_rows(strip, last_row)
            _write_chunk(stream, b"IDAT", compressor.compress(filtered))
            rows += len(strip)
        if rows != size[0]:
            raise DataError("the strips do not add up to the image", file=path, value=f"{rows} of {size[0]} rows")
        _write_chunk(stream, b"IDAT", compressor.flush())
        _write_chunk(stream, b"IEND", b"")


def _encode_metadata(metadata: ImageMetadata | None, channels: int) -> bytes:
    """Encodes color profile and resolution as the chunks that follow a PNG's header."""
    stream = io.BytesIO()
    if metadata is not None and (profile := metadata.profile_for(channels)) is not None:
        _write_chunk(stream, b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if metadata is not None and metadata.dpi is not None:
        x, y = (round(dpi / METERS_PER_INCH) for dpi in metadata.dpi)
        _write_chunk(stream, b"pHYs", struct.pack(">IIB", x, y, 1))
    return stream.getvalue()


def _write_header(stream: BinaryIO, strip: np.ndarray, size: tuple[int, int]) -> None:
    if strip.ndim != 3 or strip.dtype not in (np.uint8, np.uint16) or strip.shape[2] not in _COLOR_TYPES:
        hint = "Write (rows, width, channels) uint8 or uint16 with 1, 3 or 4 channels."
        raise DataError("PNG does not support this image", value=f"{strip.shape} {strip.dtype}", hint=hint)
    height, width = size
    bits = 8 * strip.dtype.itemsize
    _write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _COLOR_TYPES[strip.shape[2]], 0, 0, 0))


def _filter_rows(strip: np.ndarray, last_row: np.ndarray | None) -> tuple[bytes, np.ndarray]:
    """The filtered rows, and the bytes of the last one for the next strip."""
    pixels = np.ascontiguousarray(strip.astype(strip.dtype.newbyteorder(">"), copy=False))
    rows = pixels.view(np.uint8).reshape(len(strip), -1)
    above = np.zeros_like(rows[:1]) if last_row is None else last_row[None]
    differences = rows - np.concatenate([above, rows[:-1]])  # modulo 256, as the filter is defined
    filtered = np.concatenate([np.full((len(strip), 1), _FILTER_UP, np.uint8), differences], 1)
    return filtered.tobytes(), rows[-1].copy()


def _write_chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
