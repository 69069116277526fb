"""TIFF images of any number of channels: tifffile reads the layout, and all plain bands.

What it cannot decompress alone (LZW, JPEG) or has no RGB for (palettes, CMYK) goes to OpenCV and Pillow, each only for
layouts that it keeps exactly: OpenCV mixes up bands that are stored apart, drops channels beyond those of an ordinary
image and multiplies 8-bit colors by their alpha; Pillow cuts 16-bit colors to 8.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, PREDICTOR, TiffFile, TiffFileError, TiffPage

from densevision.errors import DataError
from densevision.io.decode import DAMAGE, Header, damaged, decode_opencv, decode_pillow, quiet, upright

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF and of a BigTIFF, in both byte orders."""

_DAMAGE = (*DAMAGE, TiffFileError, zlib.error)
_ORIENTATION_TAG = 274
_UNCOMPRESSED = (COMPRESSION.NONE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_BUFFER = 1 << 24
"""Compressed bytes that are read at a time; tifffile would read 256 MB."""
_GRAY, _RGB, _RGBA = (PHOTOMETRIC.MINISBLACK, 1), (PHOTOMETRIC.RGB, 3), (PHOTOMETRIC.RGB, 4)
_NAMED = (
    _GRAY,
    _RGB,
    _RGBA,
    (PHOTOMETRIC.MINISWHITE, 1),
    (PHOTOMETRIC.PALETTE, 1),
    (PHOTOMETRIC.YCBCR, 3),
    (PHOTOMETRIC.SEPARATED, 4),
)


def read_tiff_header(path: str | os.PathLike[str]) -> Header:
    """Reads the header of a TIFF's first page; Pillow's mode is left empty.

    Raises:
        DataError: It is corrupt.
    """
    with _first_page(path) as page:
        return Header("TIFF", "", (page.imagelength, page.imagewidth), _orientation(page))


def decode_tiff(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes a TIFF's first page to (H, W, N), upright, as uint8, uint16 or float32.

    Raises:
        DataError: It is corrupt or truncated, its numbers are of another type, or its compression needs imagecodecs.
    """
    with _first_page(path) as page:
        _check_type(path, page)
        if _tifffile_keeps(page) or not (_opencv_keeps(page) or _pillow_keeps(page)):
            pixels = upright(_decode_tifffile(path, page), _orientation(page))
        else:
            pixels = decode_opencv(path) if _opencv_keeps(page) else decode_pillow(path)
    return pixels.astype(np.float32) if pixels.dtype in (np.float16, np.float64) else pixels


def _tifffile_keeps(page: TiffPage) -> bool:
    """Bands of whole bytes, plain or deflated, which is what it decompresses without imagecodecs."""
    bands = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and page.bitspersample % 8 == 0
    multiplied = page.bitspersample == 8 and _layout(page) == _RGBA and EXTRASAMPLE.ASSOCALPHA in page.extrasamples
    plain = page.compression in _UNCOMPRESSED and page.predictor in (PREDICTOR.NONE, PREDICTOR.HORIZONTAL)
    return bands and plain and not multiplied


def _opencv_keeps(page: TiffPage) -> bool:
    """Chunky gray and color; it applies the four orientations that do not swap the sides."""
    chunky = page.samplesperpixel == 1 or page.planarconfig == PLANARCONFIG.CONTIG
    known = (_GRAY, _RGB, (PHOTOMETRIC.YCBCR, 3)) if page.bitspersample == 8 else (_GRAY, _RGB, _RGBA)
    return chunky and page.bitspersample >= 8 and _layout(page) in known and _orientation(page) <= 4


def _pillow_keeps(page: TiffPage) -> bool:
    """Named layouts of at most 8 bits, of which it divides colors by their alpha.

    It applies every orientation, but reads an uncompressed image whose sides are swapped in the wrong order.
    """
    in_order = page.compression != COMPRESSION.NONE or _orientation(page) <= 4
    return page.bitspersample <= 8 and _layout(page) in _NAMED and in_order


def _layout(page: TiffPage) -> tuple[int, int]:
    return page.photometric, page.samplesperpixel


def _decode_tifffile(path: str | os.PathLike[str], page: TiffPage) -> np.ndarray:
    if page.photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
        hint = "Convert it to RGB or to plain bands."
        raise DataError("colors of this kind are not read", file=path, value=_name(page.photometric), hint=hint)
    if not _is_whole(path, page):
        raise damaged(path)
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    try:
        pixels = page.asarray(buffersize=_BUFFER)
        if samples > 1 and page.planarconfig == PLANARCONFIG.SEPARATE:
            return np.ascontiguousarray(pixels.reshape(samples, height, width).transpose(1, 2, 0))
        return pixels.reshape(height, width, samples)
    except _DAMAGE as failure:
        if "imagecodecs" not in str(failure):
            raise damaged(path) from None
        hint = "Run `pip install imagecodecs`, or save it uncompressed or with deflate."
        problem = "this compression of this layout is not read"
        raise DataError(problem, file=path, value=_name(page.compression), hint=hint) from None


def _is_whole(path: str | os.PathLike[str], page: TiffPage) -> bool:
    """Whether every strip or tile lies inside the file; tifffile itself fills what is missing with zeros."""
    segments = list(zip(page.dataoffsets, page.databytecounts))
    infer_from_data = len(page.dataoffsets) == len(page.databytecounts) > 0
    return infer_from_data and max(offset + count for offset, count in segments) <= os.path.getsize(path)


def _name(code: int) -> str:
    return getattr(code, "name", None) or str(code)


def _check_type(path: str | os.PathLike[str], page: TiffPage) -> None:
    known = ("bool", "uint8", "uint16", "float16", "float32", "float64")
    if page.dtype is None or page.dtype.name not in known:
        found = page.dtype.name if page.dtype else f"{page.bitspersample} bits"
        hint = "Convert it to uint8, uint16 or float32."
        raise DataError("numbers of this type are not read as an image", file=path, value=found, hint=hint)


def _orientation(page: TiffPage) -> int:
    found = int(page.tags.valueof(_ORIENTATION_TAG, default=1))
    return found if found in range(1, 9) else 1


@contextmanager
def _first_page(path: str | os.PathLike[str]) -> Iterator[TiffPage]:
    try:
        with quiet, TiffFile(path) as file:
            page = file.pages[0]
            stated = (page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample)
            if not all(isinstance(number, int) and number > 0 for number in stated):
                raise damaged(path)
            yield page
    except _DAMAGE:
        raise damaged(path) from None
