"""Sizes of usual JPEG and PNG files from a few kilobytes, without a decoder: about 20 microseconds per image.

Whatever is unusual in a header is left to the readers in `densevision.io.image`, which also name the problem.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from typing import NamedTuple

__all__ = ["ScannedImage", "scan_image"]

HEAD_BYTES = 4096
MAX_HEAD_BYTES = 1 << 18
"""Headers with a thumbnail or a color profile are longer than `HEAD_BYTES`; longer ones than this are left alone."""
TAIL_BYTES = 4096
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Without blocking, because a name may be that of a pipe."""
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive JPEG with Huffman codes."""
_PLAIN_MARKERS = frozenset([0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)])
"""Segments that do not change the size: tables, restart interval, comment, application data."""
_EXIF, _XMP, _MPF = b"Exif\0\0", b"http://ns.adobe.com/x", b"MPF\0"
_ORIENTATION = 0x0112
_EXIF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""EXIF type -> bytes per value."""
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_LAYOUTS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Color type -> bit depths that the standard allows."""
_PNG_CHUNKS = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"pHYs", b"bKGD", b"tIME", b"hIST")
"""Chunks before the pixels that neither change the size nor hold text, profiles or EXIF."""


class ScannedImage(NamedTuple):
    """An image with a usual header, and with the marker of its end.

    Attributes:
        height, width: After the EXIF orientation.
        modified: Time of modification in ns.
        bytes: Size of the file.
    """

    height: int
    width: int
    modified: int
    bytes: int


def scan_image(path: str) -> ScannedImage | None:
    """Reads the size of a JPEG or PNG and checks its end; None if it is another file, is unusual, or cannot be read."""
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return None
        size = _scan(handle, status.st_size)
    except OSError:
        return None
    finally:
        os.close(handle)
    return None if size is None else ScannedImage(*size, status.st_mtime_ns, status.st_size)


def _scan(handle: int, file_bytes: int) -> tuple[int, int] | None:
    head = os.read(handle, HEAD_BYTES)
    size = _parse(head)
    if size is None and len(head) == HEAD_BYTES:
        head += os.read(handle, MAX_HEAD_BYTES - HEAD_BYTES)
        size = _parse(head)
    if size is None:
        return None
    if file_bytes <= len(head):
        tail = head[-TAIL_BYTES:]
    else:
        os.lseek(handle, -min(TAIL_BYTES, file_bytes), os.SEEK_END)
        tail = os.read(handle, TAIL_BYTES)
    return size if (b"IEND" if head[:1] == b"\x89" else b"\xff\xd9") in tail else None


def _parse(head: bytes) -> tuple[int, int] | None:
    if head[:3] == b"\xff\xd8\xff":
        return _parse_jpeg(head)
    return _parse_png(head) if head[:16] == _PNG_START else None


def _parse_jpeg(head: bytes) -> tuple[int, int] | None:
    """Returns the upright (height, width) of a JPEG whose segments up to the first scan all lie within `head`."""
    size, orientation, position, end = None, 1, 2, len(head) - 4
    while position <= end:
        marker, length = head[position + 1], head[position + 2] << 8 | head[position + 3]
        if head[position] != 0xFF or length < 2:
            return None
        if marker == 0xDA:
            return size if size is None or orientation < 5 else (size[1], size[0])
        if marker in _FRAME_MARKERS:
            if size is not None or length < 11 or position + 10 > len(head) or head[position + 4] != 8:
                return None
            height, width, channels = struct.unpack_from(">HHB", head, position + 5)
            if not height or not width or channels not in (1, 3) or length != 8 + 3 * channels:
                return None
            size = height, width
        elif marker not in _PLAIN_MARKERS or (marker == 0xDB and (length - 2) % 65):
            return None
        elif marker == 0xE1:
            segment = head[position + 4 : position + 2 + length]
            if len(segment) != length - 2 or orientation != 1 or segment.startswith(_XMP):
                return None
            if segment.startswith(_EXIF):
                orientation = _parse_exif(segment[6:])
                if not orientation:
                    return None
        elif marker == 0xE2 and head.startswith(_MPF, position + 4):
            return None
        position += 2 + length
    return None


def _parse_exif(exif: bytes) -> int:
    """Returns the orientation that EXIF states, 1 if it states none, 0 if it is unusual."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 14:
        return 0
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return 0
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    if start + 2 + 12 * count > len(exif):
        return 0
    orientation = 1
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", exif, entry)
        length = values * _EXIF_BYTES.get(kind, len(exif))
        if length > 4 and struct.unpack_from(f"{order}I", exif, entry + 8)[0] + length > len(exif):
            return 0  # readers stop at such an entry, and differ in what they make of the rest
        if tag == _ORIENTATION:
            if kind != 3 or values != 1 or not 1 <= value <= 8:
                return 0
            orientation = value
    return orientation


def _parse_png(head: bytes) -> tuple[int, int] | None:
    """Returns the (height, width) of a PNG whose chunks up to the pixels are valid, plain, and within `head`."""
    if len(head) < 33:
        return None
    width, height, depth, color, *methods = struct.unpack_from(">IIBBBBB", head, 16)
    is_valid = 0 < width < 1 << 31 and 0 < height < 1 << 31 and depth in _PNG_LAYOUTS.get(color, ())
    if not is_valid or methods[:2] != [0, 0] or methods[2] > 1 or not _is_chunk_intact(head, 8, 13):
        return None
    position = 33
    while position + 8 <= len(head):
        length, kind = int.from_bytes(head[position : position + 4], "big"), head[position + 4 : position + 8]
        if kind == b"IDAT":
            return height, width
        if (
            kind not in _PNG_CHUNKS
            or position + 12 + length > len(head)
            or not _is_chunk_intact(head, position, length)
        ):
            return None
        position += 12 + length
    return None


def _is_chunk_intact(head: bytes, position: int, length: int) -> bool:
    """Whether the checksum of a PNG chunk is right."""
    content, stated = head[position + 4 : position + 8 + length], head[position + 8 + length : position + 12 + length]
    return zlib.crc32(content) == int.from_bytes(stated, "big")
