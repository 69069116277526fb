"""Image files to arrays: headers, checks for damage, and decoding.

OpenCV decodes PNG, BMP, WebP and large JPEG: it preserves 16 bits and writes straight into the returned array. Pillow
reads their headers, and decodes other JPEG and what OpenCV would alter (CMYK) or cannot read (GIF, JPEG 2000, AVIF).
TIFF has its own module, `densevision.io.tiff`. On 8-bit images the two decoders give identical pixels.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ExifTags, Image

from densevision.errors import DataError, DenseVisionError
from densevision.io.image_errors import CorruptImageError
from densevision.io.placeholders import get_size, open_binary, read_content
from densevision.io.pnm import is_pnm, read_pnm

__all__ = [
    "MAX_UNCHECKED_PIXELS",
    "CorruptImageError",
    "ImageHeader",
    "apply_orientation",
    "check_compression_ratio",
    "convert_pillow_image",
    "decode_image",
    "decode_opencv",
    "decode_pillow",
    "make_corrupt_error",
    "open_pillow",
    "read_header",
    "read_magic_bytes",
    "read_orientation",
    "silence_decoders",
    "wrap_decoder_errors",
]

MAX_UNCHECKED_PIXELS = 1 << 26
"""Images up to this size (64 megapixels) are decoded whatever the size of their file."""
_MAX_PIXELS_PER_BYTE = {"PNG": 8300, "GIF": 2740, "JPEG": 1024, "MPO": 1024, "TIFF": 8300}
_DEFAULT_MAX_PIXELS_PER_BYTE = 2048
"""Highest compression that a format can reach; larger images above it are refused.

Deflate reaches 1032:1 (8 bilevel pixels per byte), LZW with 12-bit codes 2730:1, and JPEG needs at least one bit per
block of 8 x 8. WebP, AVIF and JPEG 2000 have no such bound; the default is far above that of real images.
"""
_DECODER_COPIES = {"JPEG2000": 4, "AVIF": 2}
"""Formats whose decoders hold several copies of the image: `MAX_UNCHECKED_PIXELS` is divided by this."""

_OPENCV_FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP"}
_PILLOW_FORMATS = {"GIF", "JPEG2000", "AVIF", "JPEG", "MPO", "PPM"}
_MAX_ONE_PASS_PIXELS = 1 << 23
"""JPEGs up to this size (8 megapixels) are decoded by Pillow, which states damage that OpenCV hides: one pass instead
of a check and a decoding. Its own copy of a larger image would double the peak of the memory."""
_ROWS_PER_STEP = 64
"""Rows that are converted at a time."""
_CORRUPT_HINT = "Download or export the file again, or remove it."

_OTHER_FILE_TYPES: tuple[tuple[bytes, str, str], ...] = (
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive", "Extract it, and pass the folder of its images."),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!", "an archive", "Extract it, and pass the folder of its images."),
    (rb"%PDF", "a PDF document", "Export its pages as PNG images, for example with `pdftoppm -png`."),
    (rb"(?is)\s*(<!doctype html|<html)", "a web page", "The download failed: download the image itself."),
    (rb"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` to get the image."),
    (rb"(?s)\s*(<\?xml.*)?<svg", "an SVG drawing", "Render it as PNG."),
    (rb"(?s)....ftyp(heic|heix|mif1|msf1)", "a HEIF image", "Convert it to JPEG or PNG."),
    (rb"(?s)....ftyp(isom|iso2|mp4|M4V|qt  )|\x1a\x45\xdf\xa3", "a video", "Give it a suffix of videos, such as .mp4."),
)
"""Pattern of the first bytes, name and hint of files that are mistaken for images."""
_opening = threading.Lock()


class _DecoderSilencer:
    """Silences the logs of OpenCV and tifffile while any thread is inside, because our errors state the problem."""

    def __init__(self) -> None:
        # OpenCV 4 has these functions in its top module.
        self._opencv = getattr(cv2.utils, "logging", cv2)
        self._tifffile = logging.getLogger("tifffile")
        self._lock = threading.Lock()
        self._depth = 0
        self._previous = (0, False)

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._previous = self._opencv.getLogLevel(), self._tifffile.disabled
                self._opencv.setLogLevel(0)
                self._tifffile.disabled = True

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._restore()

    def reset_after_fork(self) -> None:
        """Forgets the threads that a forked child does not have."""
        self._lock = threading.Lock()
        if self._depth:
            self._depth = 0
            self._restore()

    def _restore(self) -> None:
        level, self._tifffile.disabled = self._previous
        self._opencv.setLogLevel(level)


silence_decoders = _DecoderSilencer()
"""Context manager (`with silence_decoders:`) around everything that decodes."""


def _reset_after_fork() -> None:
    """Releases the locks of threads that a forked child does not have."""
    global _opening
    _opening = threading.Lock()
    silence_decoders.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def make_corrupt_error(path: str | os.PathLike[str]) -> CorruptImageError:
    """The error for a file that begins as an image and cannot be decoded to its end."""
    return CorruptImageError("the image is corrupt or truncated", file=path, hint=_CORRUPT_HINT)


@dataclass(frozen=True)
class ImageHeader:
    """What an image file states before any pixel is decoded.

    Attributes:
        file_format: Pillow's name of the format.
        mode: Pillow's name of the pixel layout.
        size: (height, width) as stored.
        orientation: EXIF orientation, 1 to 8; of a PNG only if its EXIF precedes the pixels, as the standard asks.
        samples: Samples per pixel, where the format allows more than four.
        transparent_gray: Stored value of the pixels that are transparent in a gray PNG (its tRNS chunk), or None.
        gray_bits: Bits of a gray value of a PNG or TIFF, of which decoders scale fewer than 8 to the range up to 255.
    """

    file_format: str
    mode: str
    size: tuple[int, int]
    orientation: int
    samples: int = 1
    transparent_gray: int | None = None
    gray_bits: int = 8


@contextmanager
def wrap_decoder_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns everything that a decoder raises into a `DataError` that names the file.

    The errors of decoders share no base class: Pillow alone raises OSError, SyntaxError, ValueError, RuntimeError
    (AVIF), MemoryError (JPEG 2000), struct.error, and arithmetic errors on headers with zeros.

    Raises:
        DataError: The decoder failed; errors of this package pass through.
    """
    try:
        yield
    except DenseVisionError:
        raise
    except MemoryError:
        problem = "the decoder ran out of memory: the image is corrupt, or too large for this machine"
        raise CorruptImageError(problem, file=path, hint=_CORRUPT_HINT) from None
    except Exception:
        raise make_corrupt_error(path) from None


def check_compression_ratio(path: str | os.PathLike[str], header: ImageHeader) -> None:
    """Refuses a header that states more pixels than the file can hold, before memory is allocated for them.

    Raises:
        DataError: The image is larger than `MAX_UNCHECKED_PIXELS` and than the format's compression can reach.
    """
    pixels, size = header.size[0] * header.size[1], get_size(path)
    unchecked = MAX_UNCHECKED_PIXELS // _DECODER_COPIES.get(header.file_format, 1)
    if pixels > max(unchecked, size * _MAX_PIXELS_PER_BYTE.get(header.file_format, _DEFAULT_MAX_PIXELS_PER_BYTE)):
        problem = f"the header states {pixels:,} pixels, more than {size:,} bytes can hold"
        raise CorruptImageError(problem, file=path, hint=_CORRUPT_HINT)


def read_magic_bytes(path: str | os.PathLike[str], count: int = 4) -> bytes:
    """Reads the first bytes of a file.

    Raises:
        DataError: The file is missing, cannot be read, or is empty.
    """
    try:
        with open_binary(path) as stream:
            data = stream.read(count)
    except FileNotFoundError:
        if re.match(r"[a-z][a-z0-9+]+:/", os.fsdecode(path)):
            hint = "Download the file and pass its path, or its content as bytes."
            raise DataError("web addresses are not read", file=path, hint=hint) from None
        raise DataError("no such file", file=path, hint="Check the path.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from None
    if not data:
        raise DataError("the file is empty (0 bytes)", file=path, hint=_CORRUPT_HINT)
    return data


def read_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Reads the header of an image of any format but TIFF.

    Raises:
        DataError: The file is not an image of a supported format.
    """
    with open_pillow(path) as image:
        if image.format is None or image.format not in _OPENCV_FORMATS | _PILLOW_FORMATS:
            hint = "Convert it to PNG, JPEG, WebP, BMP or TIFF."
            raise DataError("unsupported image format", file=path, value=image.format, hint=hint)
        width, height = image.size
        is_gray_png = image.format == "PNG" and image.mode in ("1", "L", "I", "I;16")
        transparency = image.info.get("transparency") if is_gray_png else None
        transparent_gray = transparency if isinstance(transparency, int) else None
        size, orientation = (height, width), read_orientation(image)
        bits = read_magic_bytes(path, 25)[24] if is_gray_png and image.mode in ("1", "L") else 8
        return ImageHeader(
            image.format, image.mode, size, orientation, transparent_gray=transparent_gray, gray_bits=bits
        )


def decode_image(path: str | os.PathLike[str], header: ImageHeader) -> np.ndarray:
    """Decodes an image to (H, W, C) RGB as stored: the EXIF orientation is not applied.

    Raises:
        DataError: The image is corrupt or truncated.
    """
    is_jpeg = header.file_format in ("JPEG", "MPO")
    is_one_pass = is_jpeg and header.mode in ("L", "RGB") and header.size[0] * header.size[1] <= _MAX_ONE_PASS_PIXELS
    if is_jpeg and not _is_jpeg_complete(path):
        raise make_corrupt_error(path)
    if is_jpeg and not is_one_pass:
        _check_jpeg(path)
    if header.file_format == "PNG" and not _is_png_complete(path):
        raise make_corrupt_error(path)
    if header.file_format == "PPM" and is_pnm(path):
        pixels = read_pnm(path)
    elif header.file_format in _OPENCV_FORMATS and header.mode not in ("CMYK", "F") and not is_one_pass:
        pixels = decode_opencv(path, is_jpeg and header.mode == "RGB")
    else:
        pixels = decode_pillow(path)
    if pixels.shape[:2] != header.size:
        raise make_corrupt_error(path)
    return pixels


def decode_opencv(path: str | os.PathLike[str], is_color_jpeg: bool = False) -> np.ndarray:
    """Decodes with OpenCV to (H, W, C) RGB of the file's bit depth, ignoring EXIF.

    Args:
        path: Of the image.
        is_color_jpeg: Whether it is a JPEG of three channels, which the decoder itself writes in the order of RGB.

    Raises:
        DataError: The image is corrupt or truncated.
    """
    content = read_content(path)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION if is_color_jpeg else cv2.IMREAD_UNCHANGED
    with wrap_decoder_errors(path), silence_decoders:
        # With a destination, even None, the decoder fills NumPy's own memory; without one, a copy doubles the peak.
        if content is None:
            pixels = cv2.imread(os.fspath(path), None, flags)
        else:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise make_corrupt_error(path)
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels if is_color_jpeg else _swap_channels_in_place(pixels)


def decode_pillow(path: str | os.PathLike[str]) -> np.ndarray:
    """Decodes with Pillow to (H, W, C) RGB; of several frames, the first.

    Raises:
        DataError: The image is corrupt or truncated, or has a mode that cannot be converted to RGB.
    """
    with open_pillow(path) as image, wrap_decoder_errors(path):
        image.load()
        return convert_pillow_image(image)


def convert_pillow_image(image: Image.Image) -> np.ndarray:
    """Converts a Pillow image to (H, W, C): gray, RGB or RGBA as uint8, uint16 gray, or float32 gray.

    Bilevel images become 0 and 255; palettes, CMYK and YCbCr become RGB. Images with transparency become RGBA. A
    fourth channel of unknown meaning is kept.

    Raises:
        DataError: The image has integers beyond 16 bits.
    """
    if image.mode == "F":
        return np.array(image, dtype=np.float32)[..., None]
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            extent = f"{values.min()} to {values.max()}"
            raise DataError("integers beyond 16 bits", value=extent, hint="Scale them to uint16 or float32.")
        return values.astype(np.uint16)[..., None]
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"))[..., None]
    mode = "RGBX" if image.mode == "RGBX" else "RGBA" if image.has_transparency_data else "RGB"
    if image.mode == mode:
        return np.array(image)
    pixels = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _ROWS_PER_STEP):  # a converted copy of the whole image would double the memory
        bottom = min(top + _ROWS_PER_STEP, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert(mode))
    return pixels


@contextmanager
def open_pillow(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Opens an image with Pillow without decoding it.

    Raises:
        DataError: The file is missing, empty or not an image.
    """
    read_magic_bytes(path)
    content = read_content(path)
    try:
        # Pillow's own limit is process-wide and lower than ours, which is checked right after the header is read.
        with _opening:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path if content is None else io.BytesIO(content))
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except Exception:  # see `wrap_decoder_errors`
        raise _make_not_image_error(path) from None
    with image:
        yield image


def read_orientation(image: Image.Image) -> int:
    """Reads the EXIF orientation of a Pillow image; 1 where it is absent or invalid."""
    try:
        # The base class, because PNG's own override decodes the whole image first.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is a TIFF of its own, which may be damaged in as many ways
        return 1
    return value if value in range(1, 9) else 1


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotates and mirrors a stored image so that its EXIF orientation becomes 1; a copy unless it is 1 already."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return np.ascontiguousarray(pixels[rows, columns])


def _make_not_image_error(path: str | os.PathLike[str]) -> DataError:
    start = read_magic_bytes(path, 1024)
    for pattern, name, hint in _OTHER_FILE_TYPES:
        if re.match(pattern, start):
            return DataError(f"is {name}, not an image", file=path, hint=hint)
    return DataError("not an image, or its beginning is corrupt", file=path, hint=_CORRUPT_HINT)


def _is_jpeg_complete(path: str | os.PathLike[str]) -> bool:
    """Whether a JPEG has its end marker; libjpeg only warns, and fills missing pixels with gray.

    The end-of-image marker FF D9 cannot occur in the scans, where every FF is followed by a zero or a restart number,
    but in the segments before them, which may hold a thumbnail: those are skipped.
    """
    with open_binary(path) as stream:
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


def _is_png_complete(path: str | os.PathLike[str]) -> bool:
    """Whether all chunks of a PNG lie inside the file: OpenCV allocates whatever length a chunk states."""
    size = get_size(path)
    with open_binary(path) as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
            stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
            if stream.tell() > size:
                return False
    return True


def _check_jpeg(path: str | os.PathLike[str]) -> None:
    """Refuses a JPEG with corrupt entropy-coded data, of which OpenCV returns the part before the error in silence.

    It is decoded at an eighth of its size, where only the Huffman codes take time.

    Raises:
        DataError: libjpeg stops before the end.
    """
    with open_pillow(path) as image, wrap_decoder_errors(path):
        image.draft("L", (image.width // 8, image.height // 8))
        image.load()


def _swap_channels_in_place(pixels: np.ndarray) -> np.ndarray:
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    for top in range(0, len(pixels), _ROWS_PER_STEP):
        rows = pixels[top : top + _ROWS_PER_STEP]
        rows[...] = cv2.cvtColor(rows, code)
    return pixels
