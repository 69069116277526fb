"""Images by suffix; Pillow says which mutations are no images."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from densevision.errors import DataError
from densevision.io.image import read_image, read_image_size, read_index_mask
from fuzzing.mutations import mutate_bytes, mutate_png, mutate_text
from fuzzing.reader import Reader

PIXELS = 4_000_000
SIZE = (24, 32)


def make_files() -> dict[str, bytes]:
    """Name -> content of small valid images, several of each format."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(SIZE[0]) * 5, np.arange(SIZE[1]) * 4)[..., None] + rng.integers(0, 20, (*SIZE, 3))
    rgb = Image.fromarray(ramp.astype(np.uint8))
    deep = Image.fromarray(ramp[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (rgb, {}),
        "palette.png": (rgb.quantize(16), {}),
        "deep.png": (deep, {}),
        "rgb.jpg": (rgb, {}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "turned.jpg": (rgb, {"exif": exif}),
        "lossless.webp": (rgb, {"lossless": True}),
        "lossy.webp": (rgb, {}),
        "alpha.webp": (rgb.convert("RGBA"), {}),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (rgb.quantize(16), {}),
        "palette.gif": (rgb, {}),
        "rgb.ppm": (rgb, {}),
        "gray.pgm": (rgb.convert("L"), {}),
        "deep.pgm": (deep, {}),
        "rgb.jp2": (rgb, {}),
        "rgb.avif": (rgb, {}),
        "lzw.tif": (rgb, {"compression": "tiff_lzw"}),
        "jpeg.tif": (rgb, {"compression": "jpeg"}),
        "palette.tif": (rgb.quantize(16), {}),
    }
    files = {}
    for name, (image, options) in saved.items():
        stream = io.BytesIO()
        image.save(stream, Image.registered_extensions()[Path(name).suffix], **options)
        files[name] = stream.getvalue()
    files["plain.ppm"] = b"P3\n3 2\n255\n" + b" ".join(b"%d" % (13 * value) for value in range(18)) + b"\n"
    for name, compression in (
        ("plain.tif", {}),
        ("deflate.tif", {"compression": "zlib"}),
        ("tiles.tif", {"tile": (16, 16)}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.asarray(rgb), photometric="rgb", **compression)
        files[name] = stream.getvalue()
    return files


FILES = make_files()


def read(path: Path, rng: random.Random) -> tuple[str, ...]:
    """Reads the size, the pixels and the index mask; raises if neither of the last two can be read."""
    failure = _fail(read_image_size, path)
    failures = [_fail(function, path, PIXELS) for function in (read_image, read_index_mask)]
    for error in (failure, *failures):
        assert error is None or error.file is not None
    if all(failures):
        raise failures[0]  # type: ignore[misc]
    return ()


def _fail(function: Any, *arguments: Any) -> DataError | None:
    try:
        result = function(*arguments)
    except DataError as error:
        return error
    assert all(result) if function is read_image_size else result.size > 0
    return None


def pillow_refuses(path: Path) -> bool:
    """Whether Pillow cannot decode a file; TIFFs of layouts that it does not support at all do not count."""
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        return path.suffix != ".tif"
    except Exception:
        return True
    return False


SUFFIXES = (".png", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
MUTATIONS = {".png": mutate_png, ".ppm": mutate_text}
READERS = [
    Reader(
        name=suffix[1:],
        seeds={name: content for name, content in FILES.items() if name.endswith(suffix)},
        read=read,
        refuses=pillow_refuses,
        mutate=MUTATIONS.get(suffix, mutate_bytes),
    )
    for suffix in SUFFIXES
]
