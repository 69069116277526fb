"""Images: files, Pillow images and tensors to (H, W, C) arrays, RGB, of the type that they hold; and back to files.

Everything keeps what it holds: uint8, uint16 or float32; one channel for gray, three for RGB, four for RGBA, N for a
TIFF of N channels. Palettes and gray with alpha become RGB or RGBA, CMYK becomes RGB, EXIF orientation is applied.
Color profiles and gamma are not.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from densevision.errors import DataError, UsageError
from densevision.io import decode, tiff
from densevision.io.atomic_write import write_bytes

MAX_PIXELS = 400_000_000
"""Largest image that is decoded unless more is asked for: 1.2 GB as 8-bit RGB."""

_LUMA = (0.299, 0.587, 0.114)
_JPEG = {"quality": 95}
_OPTIONS = {".jpg": _JPEG, ".jpeg": _JPEG, ".webp": {"lossless": True, "exact": True}}
"""Of the encoders."""
_WRITABLE = {
    ".png": (("uint8", "uint16"), (1, 3, 4)),
    ".tif": (("uint8", "uint16"), (1, 3, 4)),
    ".tiff": (("uint8", "uint16"), (1, 3, 4)),
    ".webp": (("uint8",), (1, 3, 4)),
    ".jpg": (("uint8",), (1, 3)),
    ".jpeg": (("uint8",), (1, 3)),
    ".bmp": (("uint8",), (1, 3)),
}


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image as it is held in its file, upright.

    The memory at its peak is that of the decoded image, plus a copy where the EXIF orientation turns it, plus what
    libjpeg needs for progressive JPEG (twice the file's own samples).

    Args:
        path: JPEG, PNG, TIFF, WebP, BMP, PPM, GIF, JPEG 2000 or AVIF; of several frames or pages the first.
        max_pixels: Refuse larger images before they are decoded.

    Returns:
        (H, W, C) uint8, uint16 or, from TIFF, float32. Values are never scaled.

    Raises:
        DataError: The file is missing, empty, corrupt, truncated, or holds more pixels than `max_pixels`.
    """
    header = _read_header(path)
    _check_pixels(path, header, max_pixels)
    if header.format == "TIFF":
        return tiff.decode_tiff(path)
    return decode.upright(decode.decode(path, header), header.orientation)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image as `read_image` would give it, from the header alone.

    Raises:
        DataError: The file is missing, empty, or does not begin as an image.
    """
    header = _read_header(path)
    height, width = header.size
    return (width, height) if header.orientation >= 5 else (height, width)


def read_index(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a label image: each pixel is the number of a class, palettes are left aside.

    Args:
        path: A lossless image of one channel: a palette (not in TIFF) or gray, of 8 or 16 bits, in PNG also fewer.
        max_pixels: Refuse larger images before they are decoded.

    Returns:
        (H, W) uint8 or uint16, upright; gray of 1, 2 or 4 bits and indices of a palette are what the file says.

    Raises:
        DataError: As `read_image`; or the image has colors, or was compressed with loss.
    """
    header = _read_header(path)
    _check_pixels(path, header, max_pixels)
    if header.format in ("JPEG", "MPO"):
        hint = "Save labels as PNG: JPEG changes the numbers of classes."
        raise DataError("labels compressed with loss", file=path, value=header.format, hint=hint)
    if header.mode in ("P", "1"):
        return _read_pillow_index(path, header)
    labels = read_image(path, max_pixels)
    if labels.shape[2] != 1 or labels.dtype.kind != "u":
        found = f"{labels.shape[2]} channels of {labels.dtype}"
        hint = "Save labels as a PNG of one channel, gray or with a palette; or state what colors mean: data.colors."
        raise DataError("a label image needs one channel of integers", file=path, value=found, hint=hint)
    spread = _spread(path, header)
    return labels[..., 0] if spread == 1 else labels[..., 0] // np.uint8(spread)


def as_image(source: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Makes an array of whatever holds one image.

    Args:
        source: A path; an RGB array (H, W, C) or (H, W), uint8, uint16 or float; a Pillow image; a tensor
            (C, H, W) or (H, W) of these types. Pillow itself holds at most 8 bits per color: give it 16-bit color
            as a path.
        max_pixels: For paths: refuse larger images.

    Returns:
        (H, W, C) uint8, uint16 or float32. Arrays of these types are passed on, not copied.

    Raises:
        DataError: It is nothing of this kind; the message says which shape or type it has.
    """
    if isinstance(source, (str, os.PathLike)):
        return read_image(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    if isinstance(source, np.ndarray):
        return _checked(source, "an array is (height, width, channels) or (height, width)")
    if _is_tensor(source):
        array = _tensor_array(source)
        chw = array.transpose(1, 2, 0) if array.ndim == 3 else array
        return _checked(chw, "a tensor is (channels, height, width) or (height, width)", array.shape)
    hint = "Give a path, an array, a Pillow image or a tensor."
    raise DataError("not an image", value=type(source).__name__, hint=hint)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Gives any ordinary image three channels: gray is repeated, alpha is dropped, the type stays.

    Args:
        image: (H, W, C) with C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.

    Raises:
        DataError: More channels, of which none can be said to be red, green and blue.
    """
    return to_channels(image, 3)


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Gives an image the channels that a network wants.

    Args:
        image: (H, W, C) of any type.
        channels: 3 makes RGB of gray and of RGBA; 1 makes gray of RGB with the luma of ITU-R BT.601; any other number
            must be what the image has.

    Raises:
        DataError: The image has other channels that cannot be converted without guessing.
    """
    held = image.shape[2]
    if held == channels:
        return image
    if channels == 3 and held in (1, 2):
        return np.repeat(image[..., :1], 3, axis=2)
    if channels == 3 and held == 4:
        return np.ascontiguousarray(image[..., :3])
    if channels == 1 and held == 2:
        return np.ascontiguousarray(image[..., :1])
    if channels == 1 and held in (3, 4):
        return _luma(image)
    hint = "Use a network of as many input channels (`backbone.channels`), or convert the image."
    raise DataError(f"an image of {held} channels where {channels} are needed", value=image.shape, hint=hint)


def to_unit_float(image: np.ndarray) -> np.ndarray:
    """Scales an image to float32 in [0, 1]: uint8 by 255, uint16 by 65535, float as it is.

    Raises:
        DataError: Floats that are not finite or leave [0, 1], or another type.
    """
    if image.dtype in (np.uint8, np.uint16):
        return np.divide(image, np.float32(np.iinfo(image.dtype).max), dtype=np.float32)
    if image.dtype.kind != "f":
        raise DataError("not the type of an image", value=str(image.dtype), hint="Give uint8, uint16 or float.")
    low, high = (image.min(), image.max()) if image.size else (0.0, 1.0)
    # A comparison with NaN is false, so this refuses NaN as well.
    if not (low >= 0 and high <= 1):
        hint = "Divide it by the value of white, and replace what is not finite."
        raise DataError("a float image must lie in [0, 1]", value=f"{low:.6g} to {high:.6g}", hint=hint)
    return image.astype(np.float32, copy=False)


def to_display(image: np.ndarray) -> np.ndarray:
    """Makes something to look at and draw on: (H, W, 3) uint8, a copy.

    16 bits are scaled by 255 / 65535, floats are clipped to [0, 1], of more than four channels the first three show.
    """
    rgb = to_rgb(image[..., :3] if image.shape[2] > 4 else image)
    if rgb.dtype == np.uint8:
        return rgb.copy()
    unit = rgb / 65535.0 if rgb.dtype == np.uint16 else np.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes an image whole or not at all; the suffix picks the format.

    PNG and TIFF hold uint8 and uint16, the others uint8. JPEG is written at quality 95; WebP without loss, and gray as
    RGB. JPEG and BMP hold no alpha, and it is not dropped in silence: take it off with `to_rgb` first.

    Args:
        path: Ends in .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff.
        image: (H, W) or (H, W, C) with C = 1, 3 or 4; gray, RGB or RGBA.

    Raises:
        UsageError: The suffix is none of these.
        DataError: The format cannot hold this image.
        DenseVisionError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        raise UsageError("images are not written in this format", file=path, hint=f"Known: {', '.join(_WRITABLE)}.")
    image = image[..., None] if image.ndim == 2 else image
    types, channels = _WRITABLE[suffix]
    if image.ndim != 3 or 0 in image.shape or image.dtype.name not in types or image.shape[2] not in channels:
        found = f"{image.shape} {image.dtype}"
        hint = f"Known: {' and '.join(types)} of {', '.join(map(str, channels))} channels; PNG holds most."
        raise DataError(f"{suffix} cannot hold this image", file=path, value=found, hint=hint)
    try:
        data = _encode(suffix, np.ascontiguousarray(image))
    except (cv2.error, OSError, ValueError) as failure:
        problem = f"{suffix} cannot hold this image: {failure}"
        raise DataError(problem, file=path, value=image.shape) from None
    write_bytes(path, data)


def _encode(suffix: str, image: np.ndarray) -> bytes:
    """OpenCV writes 16-bit PNG, tifffile says in a TIFF what alpha means, Pillow keeps color under a WebP's alpha."""
    data = io.BytesIO()
    if suffix == ".png":
        swap = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(image.shape[2])
        data.write(cv2.imencode(suffix, image if swap is None else cv2.cvtColor(image, swap))[1])
    elif suffix in (".tif", ".tiff"):
        kind = "minisblack" if image.shape[2] == 1 else "rgb"
        alpha = ["unassalpha"] if image.shape[2] == 4 else None
        pixels = image[..., 0] if image.shape[2] == 1 else image
        tifffile.imwrite(data, pixels, photometric=kind, extrasamples=alpha, compression="zlib", metadata=None)
    else:
        pixels = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(pixels).save(data, Image.registered_extensions()[suffix], **_OPTIONS.get(suffix, {}))
    return data.getvalue()


def _read_header(path: str | os.PathLike[str]) -> decode.Header:
    if decode.first_bytes(path) in tiff.MAGIC:
        return tiff.read_tiff_header(path)
    return decode.read_header(path)


def _check_pixels(path: str | os.PathLike[str], header: decode.Header, max_pixels: int) -> None:
    height, width = header.size
    if height * width > max_pixels:
        problem = f"{height * width:,} pixels ({width} x {height}) are more than the limit of {max_pixels:,}"
        raise DataError(problem, file=path, hint="Raise max_pixels if the image is meant to be so large.")


def _spread(path: str | os.PathLike[str], header: decode.Header) -> int:
    """By what decoders multiply the gray of a PNG of 2 or 4 bits so that it reaches 255."""
    bits = decode.first_bytes(path, 25)[24] if header.format == "PNG" else 8
    return 255 // (2**bits - 1) if bits < 8 else 1


def _read_pillow_index(path: str | os.PathLike[str], header: decode.Header) -> np.ndarray:
    with decode.open_pillow(path) as image:
        try:
            image.load()
        except decode.DAMAGE:
            raise decode.damaged(path) from None
        labels = np.array(image).astype(np.uint8)
    return decode.upright(labels, header.orientation)


def _from_pillow(image: Image.Image) -> np.ndarray:
    try:
        image.load()
        return decode.upright(decode.pillow_pixels(image), decode.orientation(image))
    except decode.DAMAGE as failure:
        file = getattr(image, "filename", None) or None
        raise DataError(f"the Pillow image cannot be decoded: {failure}", file=file, value=image.mode) from None


def _is_tensor(source: Any) -> bool:
    """Whether it is a torch.Tensor, told by the names of its classes so that torch need not be imported."""
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(source).__mro__)


def _tensor_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _checked(array: np.ndarray, rule: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    shape = array.shape if shape is None else shape
    if array.ndim not in (2, 3) or 0 in shape:
        raise DataError("not the shape of one image", value=tuple(shape), hint=f"{rule[0].upper()}{rule[1:]}.")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype not in (np.uint8, np.uint16):
        hint = "Give uint8, uint16, or float in [0, 1]."
        raise DataError("not the type of an image", value=f"{tuple(shape)} {array.dtype}", hint=hint)
    return array[..., None] if array.ndim == 2 else array


def _luma(image: np.ndarray) -> np.ndarray:
    gray = image[..., :3] @ np.asarray(_LUMA, np.float32)
    return (np.rint(gray) if image.dtype.kind == "u" else gray).astype(image.dtype)[..., None]
