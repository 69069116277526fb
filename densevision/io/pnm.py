"""PGM and PPM images (netpbm), binary and plain, with any maximum value.

Written by netpbm, ImageMagick, OpenCV and most cameras' tools with a maximum of 255 or 65535; sensor tools state the
range of their converter, such as 1023 or 4095, and some write plain text. Decoders differ: OpenCV ignores the maximum,
and fails on plain files without a final newline.

Source: netpbm's manual pages pgm(5) and ppm(5).
"""

from __future__ import annotations

import os
import re

import numpy as np

from densevision.errors import DataError
from densevision.io.placeholders import open_binary

__all__ = ["is_pnm", "read_pnm"]

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"(P[2356])" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)(?:#[^\r\n]*[\r\n]|\s)")
_CHANNELS = {b"P2": 1, b"P5": 1, b"P3": 3, b"P6": 3}
_HINT = "Export the file again, or leave it out."
_MAX_HEADER = 4096


def is_pnm(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a gray or color map of netpbm."""
    with open_binary(path) as stream:
        return _HEADER.match(stream.read(_MAX_HEADER)) is not None


def read_pnm(path: str | os.PathLike[str], is_raw: bool = False) -> np.ndarray:
    """Reads a PGM or PPM image.

    Args:
        path: Magic number P2, P3, P5 or P6.
        is_raw: Return the stored numbers, as index and depth maps need; by default the header's maximum becomes white.

    Returns:
        (H, W, 1) gray or (H, W, 3) RGB: uint8 where the maximum is below 256, else uint16.

    Raises:
        DataError: The header or the pixels are corrupt.
    """
    with open_binary(path) as stream:
        data = stream.read()
    header = _HEADER.match(data[:_MAX_HEADER])
    if header is None:
        raise DataError("not a PGM or PPM image", file=path, value=data[:16], hint=_HINT)
    width, height, maximum = (int(number) for number in header.groups()[1:])
    shape = height, width, _CHANNELS[header[1]]
    if not 0 < maximum < 65536 or 0 in shape:
        raise DataError("the header is corrupt", file=path, value=f"{width} x {height}, maximum {maximum}", hint=_HINT)
    stored = np.dtype(np.uint8 if maximum < 256 else ">u2")
    values = _read_values(data[header.end() :], header[1] in (b"P2", b"P3"), height * width * shape[2], stored)
    if values is None or (values.size and int(values.max()) > maximum):
        problem = f"does not hold {height * width * shape[2]} values from 0 to {maximum}"
        raise DataError(problem, file=path, hint=_HINT)
    values = values.astype(stored.newbyteorder("="))
    white = np.iinfo(values.dtype).max
    if not is_raw and maximum != white:
        table = np.rint(np.arange(maximum + 1) * (white / maximum)).astype(values.dtype)
        values = table[values]
    return values.reshape(shape)


def _read_values(data: bytes, is_plain: bool, count: int, dtype: np.dtype) -> np.ndarray | None:
    """The first `count` values; None where there are fewer, or where a word has anything but digits."""
    if not is_plain:
        size = count * dtype.itemsize
        return np.frombuffer(data[:size], dtype) if len(data) >= size else None
    words = re.sub(rb"#[^\r\n]*", b"", data).split(maxsplit=count)[:count]
    if len(words) != count or not all(map(bytes.isdigit, words)):
        return None
    try:
        return np.array(words, dtype=np.int64)
    except OverflowError:
        return None
