"""Portable float maps (.pfm), read and written; depth and flow share them.

Written by Middlebury's tools, DispNet and FlyingThings3D, OpenCV, ImageMagick, Photoshop and Matlab scripts. They
differ in the separators of the header (Photoshop writes width and height on two lines, others end lines with blanks or
CR LF, or put everything on one line), in `#` comments, in how the scale is written (`-1`, `-1.0`, `-0.0625`, `-1e0`)
and in the byte order, which the scale's sign states: negative is little-endian. The scale's absolute value is not
applied, as in Middlebury's tools. Rows run from bottom to top.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from densevision.errors import DataError
from densevision.io.atomic_write import write_bytes
from densevision.io.placeholders import open_binary

__all__ = ["PfmHeader", "read_pfm", "read_pfm_header", "write_pfm"]

MAX_HEADER_BYTES = 512
_COMMENT = rb"#[^\n]*\n"
_GAP = rb"(?:\s|" + _COMMENT + rb")+"
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_HEADER = re.compile(rb"(Pf|PF)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"(" + _NUMBER + rb")[ \t]*\r?\n")


class PfmHeader(NamedTuple):
    """Shape, byte order ("<" or ">") and start of the pixels in bytes."""

    height: int
    width: int
    channels: int
    byte_order: str
    start: int


def read_pfm_header(path: Path, channels: int) -> PfmHeader:
    """Reads the header, and compares the length of the file with it.

    Args:
        path: The file.
        channels: 1 or 3.

    Raises:
        DataError: The file is missing, has another format or number of channels, or is shorter or longer than stated.
    """
    with _open(path) as stream:
        return _parse_header(path, stream, channels)


def read_pfm(path: Path, channels: int) -> np.ndarray:
    """Reads (H, W, channels) float32, the top row first; raises as `read_pfm_header`."""
    with _open(path) as stream:
        header = _parse_header(path, stream, channels)
        stream.seek(header.start)
        rows = np.frombuffer(stream.read(), f"{header.byte_order}f4")
    return rows.reshape(header.height, header.width, channels)[::-1].astype(np.float32)


def write_pfm(path: Path, array: np.ndarray) -> None:
    """Writes (H, W) or (H, W, 3) numbers as little-endian float32, whole or not at all."""
    kind = "Pf" if array.ndim == 2 else "PF"
    header = f"{kind}\n{array.shape[1]} {array.shape[0]}\n-1.0\n"
    write_bytes(path, header.encode() + array[::-1].astype("<f4").tobytes())


def _open(path: Path) -> BinaryIO:
    try:
        return open_binary(path)
    except OSError as error:
        raise DataError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None


def _parse_header(path: Path, stream: BinaryIO, channels: int) -> PfmHeader:
    data = stream.read(MAX_HEADER_BYTES)
    match = _HEADER.match(data)
    hint = "Export the file again."
    if match is None or float(match[4]) == 0:
        raise DataError("not a .pfm file", file=path, field="header", value=data[:20], hint=hint)
    found = 1 if match[1] == b"Pf" else 3
    if found != channels:
        problem = f"a .pfm file of {found} channel{'s' * (found > 1)}, but {channels} needed"
        raise DataError(problem, file=path, field="header", value=match[1].decode())
    width, height = int(match[2]), int(match[3])
    expected = 4 * width * height * channels
    length = stream.seek(0, os.SEEK_END) - match.end()
    if length != expected or not expected:
        short_or_long = "short" if length < expected else "long"
        problem = f"the body is too {short_or_long}: {width} x {height} pixels take {expected} bytes"
        raise DataError(problem, file=path, field="body", value=length, hint=hint)
    return PfmHeader(height, width, channels, "<" if float(match[4]) < 0 else ">", match.end())
