"""TIFF images with any number of channels: tifffile reads the layout and all plain channels.

What it cannot decompress by itself (LZW, JPEG) or convert to RGB (palettes, CMYK) is decoded by OpenCV and Pillow, each
only for layouts that it reads exactly: OpenCV mixes up planar channels, drops channels beyond those of an ordinary
image and multiplies 8-bit colors by their alpha; Pillow reduces 16-bit colors to 8 bits.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, PREDICTOR, TiffFile, TiffPage

from densevision.errors import DataError
from densevision.io.decode import (
    ImageHeader,
    apply_orientation,
    decode_opencv,
    decode_pillow,
    make_corrupt_error,
    silence_decoders,
    wrap_decoder_errors,
)
from densevision.io.placeholders import get_size, open_binary, read_content

__all__ = ["TIFF_MAGIC", "decode_tiff", "open_tiff", "read_tiff_header"]

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF files, in both byte orders."""

_ORIENTATION_TAG = 274
_UNCOMPRESSED_OR_DEFLATE = (COMPRESSION.NONE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_LAYOUT_TAGS = frozenset((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339))
"""What locates pixels and gives them their meaning: sizes, bits, compression, photometric, strips, tiles, samples."""
_OFFSET_TAGS = (273, 324)
"""Of strips, of tiles; an image has one of them."""
_BUFFER_BYTES = 1 << 24
"""Compressed bytes that are read at a time; tifffile's default is 256 MB."""
_MAX_TILE_PIXELS = 1 << 24
"""Pixels that a tile may have even where the image is smaller."""
_SUPPORTED_DTYPES = ("bool", "uint8", "uint16", "float16", "float32", "float64")
_GRAY, _RGB, _RGBA = (PHOTOMETRIC.MINISBLACK, 1), (PHOTOMETRIC.RGB, 3), (PHOTOMETRIC.RGB, 4)
_PILLOW_LAYOUTS = (
    _GRAY,
    _RGB,
    _RGBA,
    (PHOTOMETRIC.MINISWHITE, 1),
    (PHOTOMETRIC.PALETTE, 1),
    (PHOTOMETRIC.YCBCR, 3),
    (PHOTOMETRIC.SEPARATED, 4),
)


def read_tiff_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Reads the header of the first page of a TIFF; `mode` is stated where Pillow reads a palette or one bit.

    Raises:
        DataError: The file is corrupt.
    """
    with _open_first_page(path) as page:
        size = page.imagelength, page.imagewidth
        layout, bits = _get_layout(page), page.bitspersample
        mode = "P" if layout == (PHOTOMETRIC.PALETTE, 1) else "1" if bits == layout[1] == 1 else ""
        mode = mode if _is_exact_with_pillow(page) else ""
        gray_bits = bits if page.samplesperpixel == 1 else 8
        return ImageHeader("TIFF", mode, size, _get_orientation(page), page.samplesperpixel, gray_bits=gray_bits)


def decode_tiff(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes the first page of a TIFF to (H, W, N), upright, as uint8, uint16 or float32.

    Raises:
        DataError: The file is corrupt or truncated, its number type is unsupported, or it needs imagecodecs.
    """
    with _open_first_page(path) as page:
        _check_dtype(path, page)
        # Pillow before OpenCV, which returns the part before an error in the compressed data without a warning.
        if not _is_exact_with_tifffile(page) and _is_exact_with_pillow(page):
            pixels = decode_pillow(path)
        elif not _is_exact_with_tifffile(page) and _is_exact_with_opencv(page):
            pixels = decode_opencv(path)
        else:
            pixels = apply_orientation(_decode_tifffile(path, page), _get_orientation(page))
    return pixels.astype(np.float32) if pixels.dtype in (np.float16, np.float64) else pixels


def _is_exact_with_tifffile(page: TiffPage) -> bool:
    """Channels of whole bytes, uncompressed or deflated, which tifffile decodes without imagecodecs."""
    is_plain = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and page.bitspersample % 8 == 0
    is_premultiplied = (
        page.bitspersample == 8 and _get_layout(page) == _RGBA and EXTRASAMPLE.ASSOCALPHA in page.extrasamples
    )
    is_decompressible = page.compression in _UNCOMPRESSED_OR_DEFLATE and page.predictor in (
        PREDICTOR.NONE,
        PREDICTOR.HORIZONTAL,
    )
    return is_plain and is_decompressible and not is_premultiplied


def _is_exact_with_opencv(page: TiffPage) -> bool:
    """Contiguous gray and color; OpenCV applies the four orientations that do not swap the sides."""
    is_contiguous = page.samplesperpixel == 1 or page.planarconfig == PLANARCONFIG.CONTIG
    layouts = (_GRAY, _RGB, (PHOTOMETRIC.YCBCR, 3)) if page.bitspersample == 8 else (_GRAY, _RGB, _RGBA)
    return is_contiguous and page.bitspersample >= 8 and _get_layout(page) in layouts and _get_orientation(page) <= 4


def _is_exact_with_pillow(page: TiffPage) -> bool:
    """Known layouts of at most 8 bits, of which Pillow divides premultiplied colors by their alpha.

    It applies every orientation, but reads uncompressed images with swapped sides in the wrong order.
    """
    is_ordered = page.compression != COMPRESSION.NONE or _get_orientation(page) <= 4
    return page.bitspersample <= 8 and _get_layout(page) in _PILLOW_LAYOUTS and is_ordered


def _get_layout(page: TiffPage) -> tuple[int, int]:
    return page.photometric, page.samplesperpixel


def _decode_tifffile(path: str | os.PathLike[str], page: TiffPage) -> np.ndarray:
    if page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
        hint = "Convert it to gray, RGB or plain channels."
        raise DataError("unsupported TIFF color space", file=path, value=_get_name(page.photometric), hint=hint)
    if not _has_all_segments(path, page) or not _has_intact_segments(path, page):
        raise make_corrupt_error(path)
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    try:
        pixels = page.asarray(buffersize=_BUFFER_BYTES)
        if samples > 1 and page.planarconfig == PLANARCONFIG.SEPARATE:
            return np.ascontiguousarray(pixels.reshape(samples, height, width).transpose(1, 2, 0))
        return pixels.reshape(height, width, samples)
    except Exception as error:  # see `decode.wrap_decoder_errors`
        if "imagecodecs" not in str(error):
            raise make_corrupt_error(path) from None
        hint = "Run `pip install imagecodecs`, or save the file uncompressed or with deflate."
        problem = "unsupported compression for this pixel layout"
        raise DataError(problem, file=path, value=_get_name(page.compression), hint=hint) from None


def _has_all_segments(path: str | os.PathLike[str], page: TiffPage) -> bool:
    """Whether the file lists as many strips or tiles as the image has, and all of them lie inside it.

    tifffile itself fills missing ones with zeros, and reads tiles as strips where a tag of the tiles is missing.
    """
    segments = list(zip(page.dataoffsets, page.databytecounts))
    listed = [page.tags[code].count for code in _OFFSET_TAGS if code in page.tags]
    is_complete = listed == [len(page.dataoffsets)] == [len(page.databytecounts)] == [math.prod(page.chunked)]
    return is_complete and max(offset + count for offset, count in segments) <= get_size(path)


def _has_intact_segments(path: str | os.PathLike[str], page: TiffPage) -> bool:
    """Whether each deflated segment ends properly and holds no more than its strip or tile.

    tifffile inflates a segment to any size, up to a thousand times its own, and pads short ones.
    """
    if page.compression not in (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE):
        return True
    max_bytes = math.prod(page.chunks) * page.bitspersample // 8
    with open_binary(path) as stream:
        for offset, count in zip(page.dataoffsets, page.databytecounts):
            if not count:  # a sparse file: the segment is omitted, and zero
                continue
            stream.seek(offset)
            inflater = zlib.decompressobj()
            try:
                size = len(inflater.decompress(stream.read(count), max_bytes + 1))
                size += len(inflater.decompress(inflater.unconsumed_tail, 1)) if size <= max_bytes else 1
            except zlib.error:
                return False
            if size > max_bytes or not inflater.eof:
                return False
    return True


def _get_name(code: int) -> str:
    return getattr(code, "name", None) or str(code)


def _check_dtype(path: str | os.PathLike[str], page: TiffPage) -> None:
    if page.dtype is None or page.dtype.name not in _SUPPORTED_DTYPES:
        value = page.dtype.name if page.dtype else f"{page.bitspersample} bits"
        hint = "Convert it to uint8, uint16 or float32."
        raise DataError("unsupported number type of an image", file=path, value=value, hint=hint)


def _get_orientation(page: TiffPage) -> int:
    value = int(page.tags.valueof(_ORIENTATION_TAG, default=1))
    return value if value in range(1, 9) else 1


def open_tiff(path: str | os.PathLike[str]) -> TiffFile:
    """Opens a TIFF with tifffile, wherever its content lies."""
    content = read_content(path)
    return TiffFile(os.fspath(path) if content is None else io.BytesIO(content))


@contextmanager
def _open_first_page(path: str | os.PathLike[str]) -> Iterator[TiffPage]:
    with wrap_decoder_errors(path), silence_decoders, open_tiff(path) as file:
        page = file.pages[0]
        header = (page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample)
        if not _read_tag_codes(file, page) & _LAYOUT_TAGS <= {tag.code for tag in page.tags}:
            raise make_corrupt_error(path)
        if not all(isinstance(number, int) and number > 0 for number in header):
            raise make_corrupt_error(path)
        rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (1, 1)
        if not 0 < rows * columns <= max(_MAX_TILE_PIXELS, 4 * header[0] * header[1]):
            raise make_corrupt_error(path)
        yield page


def _read_tag_codes(file: TiffFile, page: TiffPage) -> set[int]:
    """Codes of all tags that the page has in the file; tifffile leaves out the tags that it cannot read."""
    layout, stream = file.tiff, file.filehandle
    stream.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, stream.read(layout.tagnosize))
    entries = stream.read(count * layout.tagsize)
    return {code for (code,) in struct.iter_unpack(f"{layout.byteorder}H{layout.tagsize - 2}x", entries)}
