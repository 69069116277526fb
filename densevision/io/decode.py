"""Image files to arrays: what a file says of itself, whether it is whole, and which library decodes it.

OpenCV decodes JPEG, PNG, BMP, WebP and PPM: it keeps 16 bits and writes straight into the array that is returned.
Pillow reads their headers, and decodes what OpenCV would alter (CMYK) or not read (GIF, JPEG 2000, AVIF). TIFF, a
family rather than a format, has its own file. On 8-bit images the two decoders give identical pixels.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ExifTags, Image

from densevision.errors import DataError

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)
"""What decoders raise on files that are not what they seem to be."""

_OPENCV_FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "PPM"}
_PILLOW_FORMATS = {"GIF", "JPEG2000", "AVIF", "JPEG", "MPO", "PPM"}
_opening = threading.Lock()


class _Quiet:
    """Silences the decoders' own logs, OpenCV's and tifffile's, while any thread is inside: our errors say it once."""

    def __init__(self) -> None:
        # OpenCV 4 has these functions at its top.
        self._opencv = getattr(cv2.utils, "logging", cv2)
        self._tifffile = logging.getLogger("tifffile")
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = self._opencv.getLogLevel(), self._tifffile.disabled
                self._opencv.setLogLevel(0)
                self._tifffile.disabled = True

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                level, self._tifffile.disabled = self._before
                self._opencv.setLogLevel(level)


quiet = _Quiet()
"""`with quiet:` around whatever decodes."""


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before any pixel is decoded.

    Attributes:
        format: Pillow's name of the format.
        mode: Pillow's name of the pixels' layout.
        size: (height, width) as stored.
        orientation: EXIF orientation, 1 to 8; of a PNG that writes its EXIF before its pixels, as the standard asks.
    """

    format: str
    mode: str
    size: tuple[int, int]
    orientation: int


def first_bytes(path: str | os.PathLike[str], count: int = 4) -> bytes:
    """The beginning of a file that is there, readable and not empty.

    Raises:
        DataError: It is not.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(count)
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, ValueError) as failure:
        raise DataError(f"cannot be read: {getattr(failure, 'strerror', None) or failure}", file=path) from None
    if not start:
        raise DataError("the file is empty (0 bytes)", file=path, hint="Fetch it again, or leave it out.")
    return start


def read_header(path: str | os.PathLike[str]) -> Header:
    """Reads the header of any image but a TIFF.

    Raises:
        DataError: It is no image that can be read.
    """
    with open_pillow(path) as image:
        if image.format not in _OPENCV_FORMATS | _PILLOW_FORMATS:
            hint = "Convert it to PNG, JPEG, WebP, BMP or TIFF."
            raise DataError("images of this format are not read", file=path, value=image.format, hint=hint)
        width, height = image.size
        return Header(image.format, image.mode, (height, width), orientation(image))


def decode(path: str | os.PathLike[str], header: Header) -> np.ndarray:
    """Decodes an image to (H, W, C) RGB as stored, not yet upright.

    Raises:
        DataError: It is corrupt or truncated.
    """
    if header.format in ("JPEG", "MPO") and not jpeg_is_whole(path):
        raise damaged(path)
    by_opencv = header.format in _OPENCV_FORMATS and header.mode not in ("CMYK", "F")
    pixels = decode_opencv(path) if by_opencv else decode_pillow(path)
    if pixels.shape[:2] != header.size:
        raise damaged(path)
    return pixels


def decode_opencv(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes with OpenCV to (H, W, C) RGB of the file's own depth, ignoring EXIF.

    Raises:
        DataError: It is corrupt or truncated.
    """
    with quiet:
        try:
            # With a destination, even None, the decoder fills NumPy's own memory; without one, a copy doubles the peak.
            pixels = cv2.imread(os.fspath(path), None, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise damaged(path)
    return pixels[..., None] if pixels.ndim == 2 else _swapped_in_place(pixels)


def decode_pillow(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes with Pillow to (H, W, C) RGB; of several frames the first.

    Raises:
        DataError: It is corrupt or truncated, or of a mode that has no RGB.
    """
    with open_pillow(path) as image:
        try:
            image.load()
            return pillow_pixels(image)
        except DAMAGE:
            raise damaged(path) from None


def pillow_pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image as (H, W, C): gray, RGB or RGBA as uint8, uint16 gray, or float32 gray.

    Bilevel becomes 0 and 255; palettes, CMYK and YCbCr become RGB, with alpha where there is transparency. A fourth
    channel of unknown meaning stays.

    Raises:
        DataError: Integers beyond 16 bits.
    """
    if image.mode == "F":
        return np.array(image, dtype=np.float32)[..., None]
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            found = f"{values.min()} to {values.max()}"
            raise DataError("integers beyond 16 bits", value=found, hint="Scale them to uint16 or float32.")
        return values.astype(np.uint16)[..., None]
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[..., None]
    mode = "RGBX" if image.mode == "RGBX" else "RGBA" if image.has_transparency_data else "RGB"
    return np.array(image if image.mode == mode else image.convert(mode))


@contextmanager
def open_pillow(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Opens an image with Pillow without decoding it.

    Raises:
        DataError: The file is missing, empty or no image.
    """
    first_bytes(path)
    try:
        # Pillow's own limit is process-wide and lower than ours, which is checked right after the header is read.
        with _opening:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except DAMAGE:
        hint = "Fetch it again, or leave it out."
        raise DataError("not an image, or its beginning is corrupt", file=path, hint=hint) from None
    with image:
        yield image


def orientation(image: Image.Image) -> int:
    """EXIF orientation of a Pillow image, 1 where there is none or it makes no sense."""
    try:
        # The base class, because PNG's own override decodes the whole image first.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return found if found in range(1, 9) else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns a stored image so that its EXIF orientation becomes 1; a copy where it has to turn."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return np.ascontiguousarray(pixels[rows, columns])


def jpeg_is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a JPEG's end is there; libjpeg itself only warns, and paints what is missing gray.

    The end-of-image marker FF D9 cannot occur in the scans, where every FF is followed by a zero or a restart number,
    but it can in the segments before them, which may hold a thumbnail: those are stepped over.
    """
    with open(path, "rb") as stream:
        stream.seek(2)
        while (head := stream.read(4))[:1] == b"\xff" and head[1:2] != b"\xda":
            if head[1:2] == b"\xff":
                stream.seek(-3, os.SEEK_CUR)
            elif len(head) == 4:
                stream.seek(int.from_bytes(head[2:], "big") - 2, os.SEEK_CUR)
        last = b""
        while block := stream.read(1 << 20):
            if b"\xff\xd9" in last + block:
                return True
            last = block[-1:]
    return False


class Damaged(DataError):
    """A file that begins as an image and cannot be decoded to its end."""


def damaged(path: str | os.PathLike[str]) -> Damaged:
    """The error of a file that begins as an image and cannot be decoded to its end."""
    return Damaged("the image is corrupt or truncated", file=path, hint="Fetch it again, or leave it out.")


def _swapped_in_place(pixels: np.ndarray, band: int = 64) -> np.ndarray:
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    for top in range(0, len(pixels), band):
        rows = pixels[top : top + band]
        rows[...] = cv2.cvtColor(rows, code)
    return pixels
