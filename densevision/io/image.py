"""Images: paths, bytes, Pillow images and tensors to (H, W, C) RGB arrays, and arrays to files.

The type is preserved: uint8, uint16 or float32; one channel for gray, three for RGB, four for RGBA, N for a TIFF of N
channels. White is the largest value of the type, also where a PGM or PPM states another maximum. Palettes and gray with
alpha become RGB or RGBA, CMYK becomes RGB, and the EXIF orientation is applied. Color profiles and gamma are not.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from densevision.errors import DataError, UsageError
from densevision.io import decode, tiff
from densevision.io.atomic_write import write_bytes
from densevision.io.image_metadata import ImageMetadata
from densevision.io.png import write_png
from densevision.io.pnm import is_pnm, read_pnm

__all__ = [
    "MAX_PIXELS",
    "convert_channels",
    "load_image",
    "read_image",
    "read_image_size",
    "read_index_mask",
    "read_orientation",
    "to_display",
    "to_rgb",
    "to_unit_float",
    "write_image",
]

MAX_PIXELS = 400_000_000
"""Largest image that is decoded by default: 1.2 GB as 8-bit RGB."""

_SAMPLES_PER_PIXEL = 4
"""Samples per pixel that `max_pixels` allows for; a TIFF of more channels may have fewer pixels."""
_STRIP_BYTES = 1 << 20
"""Bytes of an image that are compressed at a time."""
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
_JPEG_OPTIONS: dict[str, Any] = {"quality": 95}
_ENCODER_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": _JPEG_OPTIONS,
    ".jpeg": _JPEG_OPTIONS,
    ".webp": {"lossless": True, "exact": True},
}
_WRITABLE = {
    ".png": (("uint8", "uint16"), (1, 3, 4)),
    ".tif": (("uint8", "uint16"), (1, 3, 4)),
    ".tiff": (("uint8", "uint16"), (1, 3, 4)),
    ".webp": (("uint8",), (1, 3, 4)),
    ".jpg": (("uint8",), (1, 3)),
    ".jpeg": (("uint8",), (1, 3)),
    ".bmp": (("uint8",), (1, 3)),
}
"""Suffix -> types and numbers of channels that the format supports."""


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file, upright.

    Peak memory is the decoded image, plus a copy where the EXIF orientation rotates it, plus what libjpeg needs for
    progressive JPEG (twice the samples of the file).

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP, PGM, PPM, GIF, JPEG 2000 or AVIF; of several frames or pages, the first.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        (H, W, C) uint8, uint16 or, from TIFF, float32. Only PGM and PPM values are scaled, to the range of the type.

    Raises:
        DataError: The file is missing, empty, corrupt or truncated, or has more pixels than `max_pixels`.
    """
    header = _read_header(path)
    _check_pixel_count(path, header, max_pixels)
    pixels = _decode_upright(path, header)
    if header.transparent_gray is None:
        return pixels
    is_opaque = pixels != header.transparent_gray * _get_gray_factor(header)
    white = pixels.dtype.type(np.iinfo(pixels.dtype).max)
    return np.concatenate([np.repeat(pixels, 3, axis=2), is_opaque * white], axis=2)


def read_image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads the (height, width) of an image from its header, after the EXIF orientation, as `read_image` returns it.

    Raises:
        DataError: The file is missing, empty, or does not begin as an image.
    """
    header = _read_header(path)
    height, width = header.size
    return (width, height) if header.orientation >= 5 else (height, width)


def read_orientation(path: str | os.PathLike[str]) -> int:
    """Reads the EXIF orientation of an image, 1 to 8, from the header alone.

    Raises:
        DataError: The file is missing, empty, or not an image.
    """
    return _read_header(path).orientation


def read_index_mask(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a mask whose pixels are class indices or object numbers; colors of a palette are ignored.

    Args:
        path: A lossless single-channel image: a palette or gray, of 8 or 16 bits, in PNG and TIFF also fewer.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        (H, W) uint8 or uint16, upright; the stored numbers, also of gray with 1, 2 or 4 bits.

    Raises:
        DataError: As `read_image`; or the image has colors, or lossy compression.
    """
    header = _read_header(path)
    _check_pixel_count(path, header, max_pixels)
    if header.file_format in ("JPEG", "MPO"):
        hint = "Save masks as PNG: JPEG changes the class indices."
        raise DataError("a mask with lossy compression", file=path, value=header.file_format, hint=hint)
    if header.mode in ("P", "1") or header.file_format == "GIF":
        return _read_palette_indices(path, header)
    is_raw = header.file_format == "PPM" and is_pnm(path)
    mask = read_pnm(path, is_raw=True) if is_raw else _decode_upright(path, header)
    if mask.shape[2] != 1 or mask.dtype.kind != "u":
        hint = "Save masks as single-channel PNG, gray or with a palette; or map colors to classes with data.colors."
        value = f"{mask.shape[2]} channels of {mask.dtype}"
        raise DataError("a mask must have one channel of integers", file=path, value=value, hint=hint)
    factor = _get_gray_factor(header)
    return mask[..., 0] if factor == 1 else mask[..., 0] // np.uint8(factor)


def load_image(source: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Converts anything that holds one image to an array.

    Args:
        source: A path; the content of an image file as bytes, or a binary file object (`io.BytesIO`, an open file),
            which is read from its current position; an RGB array (H, W, C) or (H, W), uint8, uint16 or float; a Pillow
            image; a tensor (C, H, W) or (H, W) of these types. Pillow supports at most 8 bits per color: pass 16-bit
            color as a path or as bytes.
        max_pixels: Larger encoded images are refused before they are decoded.

    Returns:
        (H, W, C) uint8, uint16 or float32. Arrays of these types are returned without a copy.

    Raises:
        DataError: The source is none of these, or has an unsupported shape or type.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_image(source, max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_bytes(source, max_pixels)
    if isinstance(source, Image.Image):
        return _convert_pillow(source)
    if isinstance(source, np.ndarray):
        return _check_array(source, "An array is (height, width, channels) or (height, width).")
    if _is_tensor(source):
        array = _tensor_to_numpy(source)
        image = array.transpose(1, 2, 0) if array.ndim == 3 else array
        return _check_array(image, "A tensor is (channels, height, width) or (height, width).", array.shape)
    if callable(getattr(source, "read", None)):
        return _read_bytes(_read_stream(source), max_pixels)
    hint = "Pass a path, bytes, a binary file object, an array, a Pillow image or a tensor."
    raise DataError("not an image", value=type(source).__name__, hint=hint)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Converts to three channels: gray is repeated, alpha is dropped, the type is preserved.

    Args:
        image: (H, W, C) with C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.

    Raises:
        DataError: The image has more channels, of which none is known to be red, green or blue.
    """
    return convert_channels(image, 3)


def convert_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Converts an image to the number of channels that a network needs.

    Args:
        image: (H, W, C) of any type.
        channels: 3 converts gray and RGBA to RGB; 1 converts RGB to gray with the luma of ITU-R BT.601; any other
            number must be that of the image.

    Raises:
        DataError: The image has channels whose conversion is not defined.
    """
    current = image.shape[2]
    if current == channels:
        return image
    if channels == 3 and current in (1, 2):
        return np.repeat(image[..., :1], 3, axis=2)
    if channels == 3 and current == 4:
        return np.ascontiguousarray(image[..., :3])
    if channels == 1 and current == 2:
        return np.ascontiguousarray(image[..., :1])
    if channels == 1 and current in (3, 4):
        return _compute_luma(image)
    hint = "Use a network with as many input channels (`backbone.channels`), or convert the image."
    raise DataError(f"an image of {current} channels where {channels} are needed", value=image.shape, hint=hint)


def to_unit_float(image: np.ndarray) -> np.ndarray:
    """Scales an image to float32 in [0, 1]: uint8 by 255, uint16 by 65535; floats are unchanged.

    Raises:
        DataError: Floats are not finite or outside [0, 1], or the type is unsupported.
    """
    if image.dtype in (np.uint8, np.uint16):
        return np.divide(image, np.float32(np.iinfo(image.dtype).max), dtype=np.float32)
    if image.dtype.kind != "f":
        raise DataError("unsupported image type", value=str(image.dtype), hint="Pass uint8, uint16 or float.")
    low, high = (image.min(), image.max()) if image.size else (0.0, 1.0)
    # A comparison with NaN is false, so this refuses NaN as well.
    if not (low >= 0 and high <= 1):
        hint = "Divide it by the value of white, and replace values that are not finite."
        raise DataError("a float image must lie in [0, 1]", value=f"{low:.6g} to {high:.6g}", hint=hint)
    return image.astype(np.float32, copy=False)


def to_display(image: np.ndarray, copy: bool = True) -> np.ndarray:
    """Converts an image to (H, W, 3) uint8 RGB for display and drawing.

    16-bit images are scaled by 255 / 65535 and floats are clipped to [0, 1]; of more than four channels, the first
    three are shown.

    Args:
        image: (H, W, C).
        copy: Copy it even where nothing is converted.
    """
    rgb = to_rgb(image[..., :3] if image.shape[2] > 4 else image)
    if rgb.dtype == np.uint8:
        return rgb.copy() if copy else rgb
    unit = rgb / 65535.0 if rgb.dtype == np.uint16 else np.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def write_image(path: str | os.PathLike[str], image: np.ndarray, metadata: ImageMetadata | None = None) -> None:
    """Writes an image atomically; the suffix selects the format.

    PNG and TIFF support uint8 and uint16, the others uint8. JPEG is written with quality 95; WebP is lossless, with
    gray as RGB. JPEG and BMP do not support alpha: drop it with `to_rgb` first.

    Args:
        path: Ends in .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff.
        image: (H, W) or (H, W, C) with C = 1, 3 or 4; gray, RGB or RGBA.
        metadata: Color profile and resolution; BMP supports no profile, WebP no resolution.

    Raises:
        UsageError: The suffix is not supported.
        DataError: The format does not support this image.
        DenseVisionError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        hint = f"Supported: {', '.join(_WRITABLE)}."
        raise UsageError("unsupported image format", file=path, value=suffix, hint=hint)
    image = image[..., None] if image.ndim == 2 else image
    types, channels = _WRITABLE[suffix]
    if image.ndim != 3 or 0 in image.shape or image.dtype.name not in types or image.shape[2] not in channels:
        supported = f"{' and '.join(types)} with {', '.join(map(str, channels))} channels"
        hint = f"Supported by {suffix}: {supported}. Drop alpha with `to_rgb`, or write a PNG."
        value = f"{image.shape} {image.dtype}"
        raise DataError(f"{suffix} does not support this image", file=path, value=value, hint=hint)
    if suffix == ".png":
        rows = max(1, _STRIP_BYTES // image[0].nbytes)
        strips = (image[top : top + rows] for top in range(0, len(image), rows))
        write_png(path, strips, image.shape[:2], metadata, is_fast=True)
        return
    try:
        data = _encode(suffix, np.ascontiguousarray(image), metadata or ImageMetadata())
    except (OSError, ValueError) as error:
        raise DataError(f"{suffix} does not support this image: {error}", file=path, value=image.shape) from None
    write_bytes(path, data)


def _encode(suffix: str, image: np.ndarray, metadata: ImageMetadata) -> bytes:
    """Encodes with the library that preserves the image.

    tifffile states the meaning of alpha in a TIFF, Pillow keeps colors below WebP's alpha.
    """
    data = io.BytesIO()
    channels = image.shape[2]
    pixels = image[..., 0] if channels == 1 else image
    if suffix in (".tif", ".tiff"):
        options: dict[str, Any] = {"compression": "zlib", "metadata": None}
        options["photometric"] = "minisblack" if channels == 1 else "rgb"
        options["extrasamples"] = ["unassalpha"] if channels == 4 else None
        if metadata.dpi is not None:
            options |= {"resolution": metadata.dpi, "resolutionunit": "INCH"}
        tifffile.imwrite(data, pixels, iccprofile=metadata.profile_for(channels), **options)
    else:
        extras = {"icc_profile": metadata.profile_for(channels), "dpi": metadata.dpi}
        options = {**_ENCODER_OPTIONS.get(suffix, {}), **{name: value for name, value in extras.items() if value}}
        Image.fromarray(pixels).save(data, Image.registered_extensions()[suffix], **options)
    return data.getvalue()


def _read_header(path: str | os.PathLike[str]) -> decode.ImageHeader:
    if decode.read_magic_bytes(path) in tiff.TIFF_MAGIC:
        return tiff.read_tiff_header(path)
    return decode.read_header(path)


def _decode_upright(path: str | os.PathLike[str], header: decode.ImageHeader) -> np.ndarray:
    if header.file_format == "TIFF":
        return tiff.decode_tiff(path)
    return decode.apply_orientation(decode.decode_image(path, header), header.orientation)


def _check_pixel_count(path: str | os.PathLike[str], header: decode.ImageHeader, max_pixels: int) -> None:
    height, width = header.size
    hint = "Increase max_pixels if the image is meant to be so large."
    if height * width > max_pixels:
        problem = f"{height * width:,} pixels ({width} x {height}) are more than the limit of {max_pixels:,}"
        raise DataError(problem, file=path, hint=hint)
    if height * width * header.samples > _SAMPLES_PER_PIXEL * max_pixels:
        problem = (
            f"{height * width:,} pixels of {header.samples} samples are more than {_SAMPLES_PER_PIXEL} x max_pixels"
        )
        raise DataError(problem, file=path, hint=hint)
    decode.check_compression_ratio(path, header)


def _get_gray_factor(header: decode.ImageHeader) -> int:
    """The factor by which decoders scale the gray of 2 or 4 bits to the range up to 255."""
    return 255 // (2**header.gray_bits - 1) if header.gray_bits < 8 else 1


def _read_palette_indices(path: str | os.PathLike[str], header: decode.ImageHeader) -> np.ndarray:
    with decode.open_pillow(path) as image, decode.wrap_decoder_errors(path):
        image.load()
        indices = np.array(image).astype(np.uint8)
    is_upright = header.file_format == "TIFF"  # Pillow applies its orientation
    return indices if is_upright else decode.apply_orientation(indices, header.orientation)


def _read_stream(stream: Any) -> bytes:
    try:
        data = stream.read()
    except OSError as error:
        raise DataError(f"cannot read the file object: {error}", value=type(stream).__name__) from None
    if not isinstance(data, (bytes, bytearray, memoryview)):
        hint = 'Open the file in binary mode: open(path, "rb").'
        raise DataError("a file object of an image must be binary", value=type(stream).__name__, hint=hint)
    if not data:
        hint = "If it was written before, rewind it: stream.seek(0)."
        raise DataError("the file object has no bytes after its position", value=type(stream).__name__, hint=hint)
    return bytes(data)


def _read_bytes(data: bytes | bytearray | memoryview, max_pixels: int) -> np.ndarray:
    """Decodes an image file in memory exactly as `read_image` does: the decoders and checks read files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        try:
            return read_image(path, max_pixels)
        except DataError as error:
            value = f"{len(data):,} bytes"
            raise type(error)(error.problem, field="bytes of an image", value=value, hint=error.hint) from None


def _convert_pillow(image: Image.Image) -> np.ndarray:
    try:
        image.load()
        return decode.apply_orientation(decode.convert_pillow_image(image), decode.read_orientation(image))
    except DataError:
        raise
    except Exception as error:  # see `decode.wrap_decoder_errors`
        file = getattr(image, "filename", None) or None
        raise DataError(f"the Pillow image cannot be decoded: {error}", file=file, value=image.mode) from None


def _is_tensor(source: Any) -> bool:
    """Whether the source is a torch.Tensor, by the names of its classes, so that torch need not be imported."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(source).__mro__)


def _tensor_to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _check_array(array: np.ndarray, hint: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array as (H, W, C), with floats as float32; `shape` is that of the user's own object."""
    shape = array.shape if shape is None else shape
    if array.ndim not in (2, 3) or 0 in shape:
        raise DataError("not the shape of one image", value=tuple(shape), hint=hint)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype not in (np.uint8, np.uint16):
        hint = "Pass uint8, uint16, or float in [0, 1]."
        raise DataError("unsupported image type", value=f"{tuple(shape)} {array.dtype}", hint=hint)
    return array[..., None] if array.ndim == 2 else array


def _compute_luma(image: np.ndarray) -> np.ndarray:
    gray = image[..., :3] @ np.asarray(_LUMA_WEIGHTS, np.float32)
    return (np.rint(gray) if image.dtype.kind == "u" else gray).astype(image.dtype)[..., None]
