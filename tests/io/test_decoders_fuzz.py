"""Corrupt images of every format: an error with the file name or an image, as with Pillow, in bounded memory."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from densevision.errors import DataError
from densevision.io.image import read_image, read_image_size, read_index_mask

PIXELS = 4_000_000
SEED = 20
ROUNDS, MANY_ROUNDS = 60, 20_000
MEGABYTES = 600
"""Growth of the peak: an image of `PIXELS` as 16-bit RGBA, its copies, and the libraries themselves."""


def _make_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(24) * 5, np.arange(32) * 4)[..., None] + rng.integers(0, 20, (24, 32, 3))
    rgb = Image.fromarray(ramp.astype(np.uint8))
    deep = Image.fromarray(ramp[..., 0].astype(np.uint16) * 200)
    saved = {
        "rgb.png": (rgb, {}),
        "palette.png": (rgb.quantize(16), {}),
        "deep.png": (deep, {}),
        "rgb.jpg": (rgb, {}),
        "progressive.jpg": (rgb, {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "lossless.webp": (rgb, {"lossless": True}),
        "lossy.webp": (rgb, {}),
        "alpha.webp": (rgb.convert("RGBA"), {}),
        "rgb.bmp": (rgb, {}),
        "palette.bmp": (rgb.quantize(16), {}),
        "palette.gif": (rgb, {}),
        "rgb.ppm": (rgb, {}),
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
    for name, options in (
        ("plain.tif", {}),
        ("deflate.tif", {"compression": "zlib"}),
        ("tiles.tif", {"tile": (16, 16)}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.asarray(rgb), photometric="rgb", **options)
        files[name] = stream.getvalue()
    return files


FILES = _make_files()


def _mutate(data: bytes, rng: random.Random, png: bool) -> bytes:
    """One mutation: truncated, bytes removed, or bytes and bits replaced, half of the time in the header."""
    changed, kind = bytearray(data), rng.randrange(5)
    if kind == 0:
        return data[: rng.randrange(1, len(data))]
    if kind == 1:
        start = rng.randrange(len(data))
        del changed[start : start + rng.randrange(1, 16)]
    else:
        end = len(data) if rng.random() < 0.5 else min(len(data), 64)
        for _ in range(rng.choice((1, 1, 2, 4, 8))):
            at = rng.randrange(end)
            changed[at] = rng.choice((0, 255, 127, 128, rng.randrange(256), changed[at] ^ (1 << rng.randrange(8))))
    return _fix_checksums(bytes(changed)) if png and rng.random() < 0.7 else bytes(changed)


def _fix_checksums(data: bytes) -> bytes:
    """A PNG with correct checksums, so that the mutation is not refused because of them."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (count,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + count > len(data):
            break
        body = data[at + 4 : at + 8 + count]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + count
    return b"".join(parts) + data[at:]


def _pillow_refuses(path: Path) -> bool:
    """Whether Pillow cannot decode a file; TIFFs of layouts that it does not support at all do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                image.load()
        except UnidentifiedImageError:
            return path.suffix != ".tif"
        except Exception:
            return True
    return False


def _run_mutations(name: str, rounds: int, folder: Path) -> list[str]:
    """Mutations of a file that were read although Pillow refuses them; errors other than DataError are raised."""
    rng, path, unexpected = random.Random(f"{SEED} {name}"), folder / f"corrupt{Path(name).suffix}", []
    for index in range(rounds):
        path.write_bytes(_mutate(FILES[name], rng, name.endswith(".png")))
        is_read = False
        for read in (read_image_size, read_image, read_index_mask):
            try:
                result = read(path) if read is read_image_size else read(path, PIXELS)
                is_read = is_read or read is not read_image_size
                assert read is read_image_size or result.size > 0
            except DataError as failure:
                assert failure.file is not None
        if is_read and _pillow_refuses(path):
            unexpected.append(f"{name}, mutation {index}")
    return unexpected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_decoders__mutations_are_refused_as_pillow_does(name: str, tmp_path: Path) -> None:
    assert _run_mutations(name, ROUNDS, tmp_path) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_decoders__many_mutations(name: str, tmp_path: Path) -> None:
    assert _run_mutations(name, MANY_ROUNDS, tmp_path) == []


@pytest.mark.parametrize("name", FILES)
def test_decoders__intact_files_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert read_image(tmp_path / name).shape[:2] == read_image_size(tmp_path / name) == (24, 32)


def _make_bombs() -> dict[str, bytes]:
    """Small files whose headers state far more than they hold."""
    huge = struct.pack("<HH", 19_000, 19_000)
    gif = FILES["palette.gif"]
    png = FILES["rgb.png"]
    stated = struct.pack(">II", 19_000, 19_000)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, np.zeros((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    held = zlib.compress(bytes(1 << 30), 9)
    strip = tiff.getvalue()
    with tifffile.TiffFile(io.BytesIO(strip)) as file:
        tags = file.pages[0].tags
        offset, count = tags["StripOffsets"].valueoffset, tags["StripByteCounts"].valueoffset
    inflating = bytearray(strip + held)
    inflating[offset : offset + 4] = struct.pack("<I", len(strip))
    inflating[count : count + 4] = struct.pack("<I", len(held))
    return {
        "screen.gif": gif[:6] + huge + gif[10:],
        "header.png": _fix_checksums(png[:16] + stated + png[24:]),
        "chunk.png": png[:33] + struct.pack(">I", 0xD9000000) + png[37:],
        "strip.tif": bytes(inflating),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes")
def test_decoders__memory_of_overstating_headers(tmp_path: Path) -> None:
    bombs = _make_bombs()
    files = [tmp_path / name for name in bombs]
    for file in files:
        file.write_bytes(bombs[file.name])
        assert file.stat().st_size < 2_000_000
    program = (
        "import resource, sys\n"
        "from densevision.io.image import read_image\n"
        "from densevision.errors import DataError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "for file in sys.argv[1:]:\n"
        "    try: read_image(file)\n"
        "    except DataError: print(peak() - before)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", program, *map(str, files)]
    process = subprocess.run(call, capture_output=True, text=True, env=environment, check=True)
    growth = [float(value) for value in process.stdout.split()]
    assert len(growth) == len(files) and growth[-1] < MEGABYTES


def test_decoders__memory_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jp2").write_bytes(FILES["rgb.jp2"])

    def exhausted(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", exhausted)
    monkeypatch.setattr("PIL.Jpeg2KImagePlugin.Jpeg2KImageFile.load", exhausted)
    with pytest.raises(DataError, match=r"a\.jp2"):
        read_image(tmp_path / "a.jp2")
