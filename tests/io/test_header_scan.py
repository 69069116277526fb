"""Scanned headers: the size that Pillow states, or none where the header is unusual or the file is not complete."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from densevision.errors import DataError
from densevision.io.header_scan import scan_image
from densevision.io.image import read_image, read_image_size

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 47, 3), np.uint8)


def encode(mode: str = "RGB", file_format: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, file_format, **options)
    return stream.getvalue()


def make_exif(orientation: int, endian: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    return exif


def with_xmp(orientation: int) -> bytes:
    xmp = f'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="{orientation}"/>'.encode()
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    jpeg = encode()
    return jpeg[:2] + segment + jpeg[2:]


def with_thumbnail() -> bytes:
    thumbnail = encode()  # has a size and an end marker of its own
    content = b"JFXX\0" + thumbnail
    jpeg = encode(subsampling=0)
    return jpeg[:2] + b"\xff\xe0" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def with_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "of a PNG")
    return info


USUAL: dict[str, Callable[[], bytes]] = {
    "baseline": encode,
    "progressive": lambda: encode(progressive=True),
    "gray": lambda: encode("L"),
    "optimized": lambda: encode(optimize=True, comment="a comment"),
    "long profile": lambda: encode(icc_profile=bytes(range(256)) * 300),
    "png": lambda: encode(file_format="PNG"),
    "gray png": lambda: encode("L", "PNG", dpi=(72, 72)),
    "palette png": lambda: encode("P", "PNG"),
    "16 bit png": lambda: encode("I;16", "PNG"),
    "thumbnail": with_thumbnail,
    **{f"orientation {n}": lambda n=n: encode(exif=make_exif(n)) for n in range(1, 9)},
    "big endian": lambda: encode(exif=make_exif(6, ">")),
}
UNUSUAL: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: encode("CMYK"),
    "XMP orientation": lambda: with_xmp(6),
    "orientation 9": lambda: encode(exif=make_exif(9)),
    "EXIF in PNG": lambda: encode(file_format="PNG", exif=make_exif(6)),
    "text in PNG": lambda: encode(file_format="PNG", pnginfo=with_text()),
    "BMP": lambda: encode(file_format="BMP"),
    "WebP": lambda: encode(file_format="WEBP"),
    "GIF": lambda: encode(file_format="GIF"),
    "empty": lambda: b"",
    "text": lambda: b"no image",
    "checksum": lambda: encode(file_format="PNG")[:30] + b"?" + encode(file_format="PNG")[31:],
}


@pytest.mark.parametrize("name", USUAL)
def test_scan__usual_headers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(USUAL[name]())
    image = scan_image(str(path))
    assert image is not None
    with Image.open(path) as opened:
        assert image[:2] == ImageOps.exif_transpose(opened).size[::-1]
    status = path.stat()
    assert (image.modified, image.bytes) == (status.st_mtime_ns, status.st_size)


@pytest.mark.parametrize("name", UNUSUAL)
def test_scan__unusual_headers_are_left_to_the_readers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(UNUSUAL[name]())
    assert scan_image(str(path)) is None


@pytest.mark.parametrize("name", ["baseline", "png", "orientation 6"])
def test_scan__no_damaged_file_gets_another_size(name: str, tmp_path: Path) -> None:
    """Every truncation is refused, and a changed byte gives the size that the careful reader gives, or none.

    Damage that the careful reader finds in other parts of a header is found when the image is read.
    """
    path, data, rng = tmp_path / "a.jpg", USUAL[name](), np.random.default_rng(1)
    for length in range(0, len(data) - 8, 11):
        path.write_bytes(data[:length])
        assert scan_image(str(path)) is None, length
    for place in rng.integers(0, min(len(data), 700), 200).tolist():
        path.write_bytes(data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :])
        image = scan_image(str(path))
        if image is not None:
            try:
                assert image[:2] == read_image_size(path), place
            except DataError:
                with pytest.raises(DataError):
                    read_image(path)


def test_scan__what_is_no_file(tmp_path: Path) -> None:
    assert scan_image(str(tmp_path)) is None and scan_image(str(tmp_path / "none")) is None
    assert scan_image(f"{tmp_path}/a\0b") is None
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
        assert scan_image(str(tmp_path / "pipe")) is None


def test_scan__png_whose_header_states_nonsense(tmp_path: Path) -> None:
    data = bytearray(encode(file_format="PNG"))
    data[24] = 3  # bits per sample
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert scan_image(str(path)) is None
    with pytest.raises(DataError):
        read_image_size(path)
