"""Images compared with Pillow, OpenCV, tifffile, hand-made files and the EXIF standard."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io import decode
from densevision.io.image import (
    convert_channels,
    load_image,
    read_image,
    read_image_size,
    read_index_mask,
    to_display,
    to_rgb,
    to_unit_float,
    write_image,
)

RNG = np.random.default_rng(7)
HEIGHT, WIDTH = 37, 53
NOISE = RNG.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)


def smooth(height: int = 120, width: int = 160) -> np.ndarray:
    grid = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG built by hand from the specification, with unfiltered rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stride = len(rows) // height if height else 0
    lines = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height if rows else 0))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    extras = b"".join(chunk(part[:4], part[4:]) for part in extra)
    return b"\x89PNG\r\n\x1a\n" + header + extras + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


# Ordinary files

SAVED = {
    "rgb.png": ("RGB", {}),
    "gray.png": ("L", {}),
    "rgba.png": ("RGBA", {}),
    "420.jpg": ("RGB", {"quality": 85}),
    "444.jpg": ("RGB", {"quality": 95, "subsampling": 0}),
    "422.jpg": ("RGB", {"quality": 70, "subsampling": 1}),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "gray.jpg": ("L", {}),
    "rgb.bmp": ("RGB", {}),
    "gray.bmp": ("L", {}),
    "lossless.webp": ("RGB", {"lossless": True}),
    "lossy.webp": ("RGB", {"quality": 60}),
    "alpha.webp": ("RGBA", {"lossless": True, "exact": True}),
    "rgb.ppm": ("RGB", {}),
    "gray.pgm": ("L", {}),
    "plain.tif": ("RGB", {}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "jpeg.tif": ("RGB", {"compression": "jpeg"}),
    "gray.tif": ("L", {"compression": "tiff_adobe_deflate"}),
    "alpha.tif": ("RGBA", {"compression": "tiff_lzw"}),
    "rgb.jp2": ("RGB", {}),
}


@pytest.mark.parametrize("name", SAVED)
def test_read_image__same_pixels_as_pillow(name: str, tmp_path: Path) -> None:
    mode, options = SAVED[name]
    image = Image.fromarray(NOISE) if "webp" in name or mode == "RGBA" else Image.fromarray(smooth(HEIGHT, WIDTH))
    image.convert(mode).save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as opened:
        expected = np.asarray(opened)
    result = read_image(tmp_path / name)
    assert result.shape == (HEIGHT, WIDTH, len(mode)) and result.dtype == np.uint8
    assert result.flags.c_contiguous and result.flags.writeable
    np.testing.assert_array_equal(result, expected.reshape(result.shape))
    assert read_image_size(tmp_path / name) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("mode", ["P", "1", "LA", "CMYK"])
def test_read_image__other_modes_are_converted_as_by_pillow(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(NOISE).convert("RGB").convert(mode).save(path)
    with Image.open(path) as opened:
        shown = {"P": "RGB", "1": "L", "LA": "RGBA", "CMYK": "RGB"}[mode]
        expected = np.asarray(opened.convert(shown))
    np.testing.assert_array_equal(read_image(path), expected.reshape(HEIGHT, WIDTH, len(shown)))


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_read_image__palette_with_transparency_is_rgba(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(NOISE).convert("RGB").quantize(16)
    image.save(tmp_path / f"a{suffix}", transparency=3)
    result = read_image(tmp_path / f"a{suffix}")
    assert result.shape == (HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(result[..., 3] == 0, np.asarray(image) == 3)
    np.testing.assert_array_equal(result[..., :3], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_read_image__gray_png_with_a_transparent_value_is_rgba(depth: int, tmp_path: Path) -> None:
    values = RNG.integers(0, 2**depth, (6, 16))
    value, white = int(values[2, 3]), 65535 if depth == 16 else 255
    bits = (values[..., None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    data = png(16, 6, depth, 0, np.packbits(bits.reshape(6, -1), axis=1).tobytes(), b"tRNS" + value.to_bytes(2, "big"))
    (tmp_path / "a.png").write_bytes(data)
    result = read_image(tmp_path / "a.png")
    assert result.shape == (6, 16, 4) and result.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(result[..., 3], np.where(values == value, 0, white))
    np.testing.assert_array_equal(result[..., 0], values * (white // (2**depth - 1)))
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.png"), values)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_read_image__gray_with_transparency_equals_pillow(suffix: str, tmp_path: Path) -> None:
    gray = Image.fromarray(NOISE[..., 0])
    gray.save(tmp_path / f"a{suffix}", transparency=int(NOISE[0, 0, 0]))
    with Image.open(tmp_path / f"a{suffix}") as opened:
        expected = np.asarray(opened.convert("RGBA"))
        np.testing.assert_array_equal(load_image(opened), expected)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), expected)
    np.testing.assert_array_equal(read_index_mask(tmp_path / f"a{suffix}"), NOISE[..., 0])


@pytest.mark.realdata
def test_read_image__photos_equal_pillow(real_data: Path) -> None:
    files = sorted((real_data / "data" / "coco128").rglob("*.jpg"))[:24]
    assert files
    for file in files:
        with Image.open(file) as opened:
            expected = np.asarray(opened)
        np.testing.assert_array_equal(read_image(file), expected.reshape(*expected.shape[:2], -1))


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("depth", [8, 16])
def test_read_image__handmade_png_preserves_all_bits(depth: int, color: int, channels: int, tmp_path: Path) -> None:
    values = RNG.integers(0, 2**depth, (HEIGHT, WIDTH, channels))
    data = png(WIDTH, HEIGHT, depth, color, values.astype(">u2" if depth == 16 else "u1").tobytes())
    (tmp_path / "a.png").write_bytes(data)
    result = read_image(tmp_path / "a.png")
    assert result.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(result, values[..., [0, 0, 0, 1]] if channels == 2 else values)


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3), (9, 11, 4)])
def test_read_image__16_bit_png_of_opencv(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, shape).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    order = {2: [0], 3: [2, 1, 0, 3][: shape[-1]]}[len(shape)]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values.reshape(*shape[:2], -1)[..., order])


def test_read_image__one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]
    assert read_image_size(str(tmp_path / "a.png")) == (1, 1)


# TIFF: any type and number of channels


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"byteorder": ">"}], ids=str)
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_read_image__tiff_bands(kind: str, channels: int, is_planar: bool, options: dict, tmp_path: Path) -> None:
    values = (RNG.random((HEIGHT, WIDTH, channels)) * 200).astype(kind)
    bands = np.moveaxis(values, 2, 0) if is_planar else values
    photometric = "rgb" if channels in (3, 4) else "minisblack"
    planar = None if channels == 1 else "separate" if is_planar else "contig"
    options = {**options, "photometric": photometric, "planarconfig": planar}
    tifffile.imwrite(tmp_path / "a.tif", values[..., 0] if channels == 1 else bands, **options)
    result = read_image(tmp_path / "a.tif")
    assert result.dtype == kind and result.flags.c_contiguous
    np.testing.assert_array_equal(result, values)
    assert read_image_size(tmp_path / "a.tif") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_read_image__tiff_lzw_of_opencv(kind: str, channels: int, tmp_path: Path) -> None:
    values = (RNG.random((HEIGHT, WIDTH, channels)) * 200).astype(kind)
    cv2.imwrite(str(tmp_path / "a.tif"), values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    result = read_image(tmp_path / "a.tif")
    assert result.dtype == kind
    np.testing.assert_array_equal(result, values)


def test_read_image__tiff_color_photo_declared_as_gray_channels(tmp_path: Path) -> None:
    values = NOISE[..., :3]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_read_image__tiff_of_other_color_spaces(mode: str, tmp_path: Path) -> None:
    Image.fromarray(NOISE[..., :3]).convert(mode).save(tmp_path / "a.tif", compression="tiff_lzw")
    with Image.open(tmp_path / "a.tif") as opened:
        expected = np.asarray(opened.convert("L" if mode == "1" else "RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected.reshape(HEIGHT, WIDTH, -1))


def test_read_image__tiff_float64_becomes_float32(tmp_path: Path) -> None:
    values = RNG.random((5, 6, 1))
    tifffile.imwrite(tmp_path / "a.tif", values[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values.astype(np.float32))


@pytest.mark.parametrize("kind", ["int16", "uint32", "complex64"])
def test_read_image__unsupported_tiff_types_are_refused(kind: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((5, 6), kind))
    with pytest.raises(DataError, match=f"{kind}.*Convert"):
        read_image(tmp_path / "a.tif")


def test_read_image__unsupported_tiff_compression_is_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", NOISE[..., [0, 1, 2, 3, 0]], photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(5)
    with pytest.raises(DataError, match=r"a\.tif.*LZW.*imagecodecs"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("tag", ["RowsPerStrip", "PlanarConfiguration", "StripOffsets", "TileWidth", "TileOffsets"])
@pytest.mark.parametrize("damage", ["type", "code"])
def test_read_image__tiff_whose_layout_cannot_be_read_is_refused(tag: str, damage: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", NOISE[..., :3], photometric="rgb", tile=(16, 16) if "Tile" in tag else None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset, code = file.pages[0].tags[tag].offset, file.pages[0].tags[tag].code
    content = bytearray((tmp_path / "a.tif").read_bytes())
    assert int.from_bytes(content[offset : offset + 2], "little") == code
    content[offset + (2 if damage == "type" else 1)] ^= 0x80
    (tmp_path / "a.tif").write_bytes(content)
    if damage == "code" and tag in ("RowsPerStrip", "PlanarConfiguration"):  # they have defaults, which fit here
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), NOISE[..., :3])
        return
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.tif")
    assert caught.value.file == tmp_path / "a.tif"


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha", "unspecified"])
def test_read_image__tiff_fourth_channel(alpha: str, tmp_path: Path) -> None:
    values = np.clip(NOISE, 0, NOISE[..., 3:])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[alpha])
    result = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(result[..., 3], values[..., 3])
    expected = values[..., :3].astype(float)
    if alpha == "assocalpha":
        expected = expected * 255 / np.maximum(values[..., 3:], 1)
    assert np.abs(result[..., :3] - expected).max() <= 1


def test_read_image__tiff_lzw_rgba_of_opencv(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), NOISE[..., [2, 1, 0, 3]], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), NOISE)


@pytest.mark.parametrize("mode", ["P", "CMYK"])
def test_read_image__tiff_that_no_decoder_reads_exactly_is_refused(mode: str, tmp_path: Path) -> None:
    Image.fromarray(NOISE[..., :3]).convert(mode).save(tmp_path / "a.tif", tiffinfo={274: 6})
    with pytest.raises(DataError, match=r"PALETTE|SEPARATED"):
        read_image(tmp_path / "a.tif")


# EXIF


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The stored array that EXIF says shows `upright`, pixel by pixel after its table of where row 0 and column 0 are.

    Source: EXIF 2.3, tag 0112H.
    """
    sides = ["top left", "top right", "bottom right", "bottom left"]
    sides += ["left top", "right top", "right bottom", "left bottom"]
    row_side, column_side = sides[orientation - 1].split()
    height, width = upright.shape[:2]
    stored = np.zeros((height, width) if orientation < 5 else (width, height), upright.dtype)
    for row in range(stored.shape[0]):
        for column in range(stored.shape[1]):
            place = {row_side: row, column_side: column}
            y = place["top"] if "top" in place else height - 1 - place["bottom"]
            x = place["left"] if "left" in place else width - 1 - place["right"]
            stored[row, column] = upright[y, x]
    return stored


UPRIGHT = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7) * 7


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_read_image__exif_orientation(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Blocks of eight pixels of one value pass through JPEG unchanged.
    scale = 8 if suffix == ".jpg" else 1
    expected = np.kron(UPRIGHT, np.ones((scale, scale), np.uint8))
    stored = stored_as(expected, orientation)
    Image.fromarray(np.dstack([stored] * 3)).save(
        tmp_path / f"a{suffix}", exif=exif, lossless=True, quality=100, subsampling=0
    )
    result = read_image(tmp_path / f"a{suffix}")
    assert result.flags.c_contiguous
    assert np.abs(result[..., 0].astype(int) - expected).max() <= (1 if suffix == ".jpg" else 0)
    assert read_image_size(tmp_path / f"a{suffix}") == expected.shape
    with Image.open(tmp_path / f"a{suffix}") as opened:
        np.testing.assert_array_equal(load_image(opened), result)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("writer", ["bands", "16 bit", "lzw", "lzw 16 bit", "palette"])
def test_read_image__tiff_orientation(writer: str, orientation: int, tmp_path: Path) -> None:
    stored, path = stored_as(UPRIGHT, orientation), tmp_path / "a.tif"
    tag = [(274, "H", 1, orientation, True)]
    if writer == "bands":
        tifffile.imwrite(path, np.dstack([stored] * 6), photometric="minisblack", planarconfig="contig", extratags=tag)
    elif writer == "16 bit":
        tifffile.imwrite(path, np.dstack([stored] * 3).astype(np.uint16), photometric="rgb", extratags=tag)
    elif writer == "palette":
        image = Image.fromarray(stored).convert("P", palette=Image.Palette.ADAPTIVE)
        image.save(path, tiffinfo={274: orientation}, compression="tiff_lzw")
    else:
        values = np.dstack([stored] * 3).astype(np.uint16 if "16" in writer else np.uint8)
        cv2.imwrite(str(path), values, [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 1])
        with tifffile.TiffFile(path, mode="r+b") as file:
            _set_orientation(file, orientation)
    assert read_image_size(path) == UPRIGHT.shape
    if writer == "lzw 16 bit" and orientation >= 5:
        with pytest.raises(DataError, match="imagecodecs"):
            read_image(path)
        return
    np.testing.assert_array_equal(read_image(path)[..., 0], UPRIGHT)


def _set_orientation(file: tifffile.TiffFile, orientation: int) -> None:
    """Turns a tag that decoders do not read into the orientation."""
    tags = file.pages[0].tags
    if 274 in tags:
        tags[274].overwrite(orientation)
        return
    tag = tags["PlanarConfiguration"]
    assert tag.value == 1, "the default, so that it may go"
    file.filehandle.seek(tag.offset)
    file.filehandle.write(struct.pack("<HHIHH", 274, 3, 1, orientation, 0))


# What must be refused


@pytest.mark.parametrize("name", [name for name in SAVED if not name.endswith(".jp2")])
def test_read_image__truncated(name: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    mode, options = SAVED[name]
    Image.fromarray(smooth()).convert(mode).save(tmp_path / name, **options)
    data = (tmp_path / name).read_bytes()
    whole = read_image(tmp_path / name)
    for length in (len(data) - 1, len(data) - 8, len(data) * 9 // 10, len(data) // 2, len(data) // 10, 60, 20, 5, 1):
        (tmp_path / name).write_bytes(data[:length])
        # A TIFF may end in bytes that no pixel needs.
        try:
            np.testing.assert_array_equal(read_image(tmp_path / name), whole)
            assert name.endswith(".tif") and length > len(data) - 4
        except DataError as refusal:
            assert name in str(refusal)
    assert "ERROR" not in capfd.readouterr().err


def test_read_image__truncated_jpeg_with_a_complete_thumbnail(tmp_path: Path) -> None:
    thumbnail, whole = io.BytesIO(), io.BytesIO()
    Image.fromarray(smooth(12, 16)).save(thumbnail, "JPEG")
    Image.fromarray(smooth()).save(whole, "JPEG")
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail.getvalue()) + 2) + thumbnail.getvalue()
    data = whole.getvalue()[:2] + segment + whole.getvalue()[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg").shape == (120, 160, 3)
    (tmp_path / "a.jpg").write_bytes(data[:-200])
    with pytest.raises(DataError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_read_image__jpeg_with_fill_bytes_and_trailing_data(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(smooth()).save(whole, "JPEG")
    data = whole.getvalue()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xff" + data[2:] + b"trailing data")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(Image.open(io.BytesIO(data))))


def test_read_image__damage_gives_an_error_or_an_image_of_the_stated_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("rgb.png", "420.jpg", "lossy.webp", "plain.tif", "lzw.tif", "rgb.bmp", "alpha.tif"):
        mode, options = SAVED[name]
        Image.fromarray(smooth(24, 32)).convert(mode).save(tmp_path / name, **options)
        data = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(40):
            corrupt = data.copy()
            where = rng.integers(0, len(data) if rng.random() < 0.5 else min(200, len(data)), 4)
            corrupt[where] = rng.integers(0, 256, 4)
            (tmp_path / name).write_bytes(corrupt.tobytes())
            try:
                assert read_image(tmp_path / name, 10_000).shape[:2] == read_image_size(tmp_path / name)
            except DataError as error:
                assert name in str(error)


@pytest.mark.parametrize("read", [read_image, read_image_size, read_index_mask])
def test_read__missing_empty_folder_or_text(read, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        read(tmp_path / "absent.png")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"empty\.jpg.*empty"):
        read(tmp_path / "empty.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "text.png").write_text("not an image at all")
    with pytest.raises(DataError, match=r"text\.png"):
        read(tmp_path / "text.png")
    (tmp_path / "short.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match="corrupt or truncated"):
        read(tmp_path / "short.tif")


def test_read_image__unsupported_format(tmp_path: Path) -> None:
    Image.fromarray(NOISE).convert("RGB").save(tmp_path / "a.pcx")
    with pytest.raises(DataError, match=r"a\.pcx.*PCX"):
        read_image(tmp_path / "a.pcx")


def test_read_image__more_pixels_than_the_limit_are_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(60_000, 50_000, 8, 2, b""))
    with pytest.raises(DataError, match=r"bomb\.png.*3,000,000,000.*limit of 400,000,000.*max_pixels"):
        read_image(tmp_path / "bomb.png")
    assert read_image_size(tmp_path / "bomb.png") == (50_000, 60_000)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"100 pixels .* limit of 99"):
        read_image(tmp_path / "a.png", 99)
    assert read_image(tmp_path / "a.png", 100).shape == (10, 10, 1)
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's own limit is restored"


def test_silence_decoders__restores_the_log_level_after_threads() -> None:
    log = getattr(cv2.utils, "logging", cv2)
    before = log.getLogLevel()
    gate = threading.Barrier(2)

    def work() -> None:
        with decode.silence_decoders:
            gate.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.getLogLevel() == before


# Index masks


def test_read_index_mask__palette_and_gray_preserve_indices(tmp_path: Path) -> None:
    labels = RNG.integers(0, 21, (HEIGHT, WIDTH)).astype(np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putpalette(RNG.integers(0, 256, 768, np.uint8).tolist())
    indexed = Image.frombytes("P", (WIDTH, HEIGHT), labels.tobytes())
    indexed.putpalette(image.getpalette())
    for name in ("palette.png", "palette.gif"):
        indexed.save(tmp_path / name)
        result = read_index_mask(tmp_path / name)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, labels)
    Image.fromarray(labels).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_index_mask(tmp_path / "gray.png"), labels)
    wide = labels.astype(np.uint16) * 3000
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    result = read_index_mask(tmp_path / "wide.png")
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, wide)


def test_read_index_mask__four_bit_palette_and_bilevel(tmp_path: Path) -> None:
    labels = RNG.integers(0, 16, (4, 8)).astype(np.uint8)
    packed = (labels[:, ::2] << 4 | labels[:, 1::2]).tobytes()
    (tmp_path / "a.png").write_bytes(png(8, 4, 4, 3, packed, b"PLTE" + bytes(range(48))))
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.png"), labels)
    Image.fromarray(labels > 7).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_index_mask(tmp_path / "b.png"), labels > 7)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_read_index_mask__gray_of_few_bits_is_not_scaled(bits: int, tmp_path: Path) -> None:
    labels = RNG.integers(0, 2**bits, (4, 8)).astype(np.uint8)
    groups = labels.reshape(4, bits, 8 // bits)
    packed = sum(groups[..., place] << (8 - bits * (place + 1)) for place in range(8 // bits))
    (tmp_path / "a.png").write_bytes(png(8, 4, bits, 0, packed.astype(np.uint8).tobytes()))
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.png"), labels)


def encode_tiff(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """An uncompressed gray TIFF by the specification: header, nine tags, one strip."""
    start = 8 + 2 + 9 * 12 + 4
    tags = ((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, start), (277, 3, 1))
    tags = (*tags, (278, 3, height), (279, 4, len(rows)))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + rows


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_read_index_mask__tiff_of_few_bits_is_not_scaled(bits: int, tmp_path: Path) -> None:
    labels = RNG.integers(0, 2**bits, (4, 8)).astype(np.uint8)
    groups = labels.reshape(4, bits, 8 // bits)
    packed = sum(groups[..., place] << (8 - bits * (place + 1)) for place in range(8 // bits))
    (tmp_path / "a.tif").write_bytes(encode_tiff(8, 4, bits, packed.astype(np.uint8).tobytes()))
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.tif"), labels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "group4"])
@pytest.mark.parametrize("orientation", [1, 3])
def test_read_index_mask__tiff_of_a_palette_or_one_bit(
    compression: str | None, orientation: int, tmp_path: Path
) -> None:
    labels = RNG.integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8)
    image = Image.fromarray(labels.astype(bool))
    if compression != "group4":
        image = Image.frombytes("P", (WIDTH, HEIGHT), labels.tobytes())
        image.putpalette(RNG.integers(0, 256, 768, np.uint8).tolist())
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
    expected = labels if orientation == 1 else labels[::-1, ::-1]
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.tif"), expected)


def test_read_index_mask__colors_floats_and_jpeg_are_refused(tmp_path: Path) -> None:
    Image.fromarray(NOISE).convert("RGB").save(tmp_path / "a.png")
    with pytest.raises(DataError, match="3 channels of uint8"):
        read_index_mask(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.float32))
    with pytest.raises(DataError, match="float32"):
        read_index_mask(tmp_path / "a.tif")
    Image.fromarray(NOISE).convert("L").save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="JPEG"):
        read_index_mask(tmp_path / "a.jpg")


# Images from objects


def test_load_image__arrays(tmp_path: Path) -> None:
    assert load_image(NOISE) is NOISE
    assert load_image(NOISE[..., 0]).shape == (HEIGHT, WIDTH, 1)
    assert load_image(NOISE.astype(np.uint16)).dtype == np.uint16
    assert load_image(np.zeros((2, 2), np.float64)).dtype == np.float32
    assert load_image(np.zeros((1, 1, 12), np.float16)).shape == (1, 1, 12)
    for shape in [(3,), (1, 2, 3, 4), (0, 4, 3), (4, 4, 0)]:
        with pytest.raises(DataError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            load_image(np.zeros(shape, np.uint8))
    for kind in (np.int64, bool, np.int16):
        with pytest.raises(DataError, match=np.dtype(kind).name):
            load_image(np.zeros((4, 4), kind))
    for source in (None, 3, [[1]]):
        with pytest.raises(DataError, match=type(source).__name__):
            load_image(source)


def test_load_image__pillow_and_paths(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png")), NOISE)
    np.testing.assert_array_equal(load_image(Image.fromarray(NOISE)), NOISE)
    wide = RNG.integers(0, 65536, (4, 5)).astype(np.uint16)
    np.testing.assert_array_equal(load_image(Image.fromarray(wide))[..., 0], wide)
    np.testing.assert_array_equal(load_image(Image.fromarray(wide.astype(np.int32)))[..., 0], wide)
    with pytest.raises(DataError, match="16 bits"):
        load_image(Image.fromarray(wide.astype(np.int32) - 70000))
    with pytest.raises(DataError, match="limit"):
        load_image(tmp_path / "a.png", max_pixels=5)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(DataError, match=r"cut\.png"):
        load_image(opened)


def test_load_image__tensors() -> None:
    torch = pytest.importorskip("torch")
    chw = torch.from_numpy(NOISE).permute(2, 0, 1)
    np.testing.assert_array_equal(load_image(chw), NOISE)
    assert load_image(chw[0]).shape == (HEIGHT, WIDTH, 1)
    half = load_image((chw / 255).bfloat16().requires_grad_())
    assert half.dtype == np.float32 and half.shape == NOISE.shape
    with pytest.raises(DataError, match=r"\(1, 4, 37, 53\)"):
        load_image(chw[None])


def test_module__does_not_import_torch() -> None:
    program = (
        "import sys, numpy; from densevision.io import image, video, weights\n"
        "image.load_image(numpy.zeros((2, 2), 'uint8')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def encode_png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def test_load_image__bytes_and_file_objects(tmp_path: Path) -> None:
    data = encode_png(NOISE)
    stream = io.BytesIO(b"header" + data)
    stream.seek(6)
    (tmp_path / "a.bin").write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), stream):
        np.testing.assert_array_equal(load_image(source), NOISE)
    with open(tmp_path / "a.bin", "rb") as file:
        np.testing.assert_array_equal(load_image(file), NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_load_image__bytes_equal_the_file(orientation: int, tmp_path: Path) -> None:
    wide = RNG.integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    cv2.imwrite(str(tmp_path / "16.png"), wide)
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((9, 11, 5), np.float32), photometric="minisblack")
    Image.fromarray(smooth(9, 11)).save(tmp_path / "exif.jpg", exif=exif)
    for name in ("16.png", "bands.tif", "exif.jpg"):
        expected = read_image(tmp_path / name)
        result = load_image((tmp_path / name).read_bytes())
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("source", [b"", b"not an image", encode_png(NOISE)[:500]])
def test_load_image__bytes_that_are_no_image(source: bytes) -> None:
    with pytest.raises(DataError, match="bytes"):
        load_image(source)


def test_load_image__unusable_file_objects(tmp_path: Path) -> None:
    stream = io.BytesIO(encode_png(NOISE))
    stream.read()
    with pytest.raises(DataError, match="seek"):
        load_image(stream)
    with pytest.raises(DataError, match="binary"):
        load_image(io.StringIO("text"))
    with pytest.raises(DataError, match="max_pixels"):
        load_image(encode_png(NOISE), max_pixels=5)


def make_zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.png", encode_png(NOISE))
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (make_zip(), "ZIP"),
        (gzip.compress(b"anything", mtime=0), "archive"),
        (b"%PDF-1.7\n%text", "PDF"),
        (b"<!DOCTYPE html>\n<html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
    ],
)
def test_load_image__other_file_types_are_named(data: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    for source in (tmp_path / "photo.jpg", data):
        with pytest.raises(DataError, match=kind):
            load_image(source)


@pytest.mark.parametrize(
    "address", ["https://example.com/a.jpg", Path("http://example.com/a.jpg"), "s3://bucket/a.png"]
)
def test_load_image__web_addresses_are_refused_with_a_hint(address: str | Path) -> None:
    with pytest.raises(DataError, match="Download"):
        load_image(address)


# Netpbm images with any maximum


@pytest.mark.parametrize("name", ["g15.pgm", "c127.ppm", "g1023.pgm", "c4095.ppm", "plain1023.pgm"])
def test_read_image__netpbm_maximum_is_white(name: str, tmp_path: Path) -> None:
    maximum = int("".join(filter(str.isdigit, name)))
    unit = np.tile(np.linspace(0, 1, 64), (48, 1))
    image = np.dstack([unit, unit[:, ::-1], np.ones_like(unit)]) if name.startswith("c") else unit
    values = np.rint(image * maximum).astype(int)
    if name.startswith("plain"):
        data = f"P2\n64 48\n{maximum}\n{' '.join(map(str, values.ravel()))}".encode()
    else:
        header = f"{'P6' if name.startswith('c') else 'P5'}\n64 48\n{maximum}\n".encode()
        data = header + values.astype(">u2" if maximum > 255 else "u1").tobytes()
    (tmp_path / name).write_bytes(data)
    result = to_unit_float(read_image(tmp_path / name))
    np.testing.assert_allclose(
        result, values.reshape(result.shape) / maximum, atol=0.5 / 255 if maximum < 256 else 1e-5
    )
    if not name.startswith("c"):
        np.testing.assert_array_equal(read_index_mask(tmp_path / name), values)


# Conversions


def test_to_rgb__gray_is_repeated_and_alpha_dropped() -> None:
    assert to_rgb(NOISE[..., :3]).base is NOISE
    np.testing.assert_array_equal(to_rgb(NOISE), NOISE[..., :3])
    assert to_rgb(NOISE).flags.c_contiguous
    gray = NOISE[..., :1].astype(np.uint16) * 257
    assert to_rgb(gray).dtype == np.uint16
    np.testing.assert_array_equal(to_rgb(gray), np.dstack([gray] * 3))
    np.testing.assert_array_equal(to_rgb(NOISE[..., :2]), np.dstack([NOISE[..., 0]] * 3))
    with pytest.raises(DataError, match="5"):
        to_rgb(np.zeros((2, 2, 5), np.uint8))


def test_convert_channels__gray_equals_opencv() -> None:
    expected = cv2.cvtColor(NOISE, cv2.COLOR_RGBA2GRAY)
    result = convert_channels(NOISE, 1)
    assert result.dtype == np.uint8 and result.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(result[..., 0].astype(int) - expected).max() <= 1
    assert convert_channels(NOISE, 4) is NOISE
    with pytest.raises(DataError, match="6"):
        convert_channels(NOISE[..., :3], 6)


def test_to_unit_float__equals_torch() -> None:
    torch = pytest.importorskip("torch")
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_unit_float(levels), torch.from_numpy(levels).float().div(255).numpy())
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert to_unit_float(wide).dtype == np.float32
    np.testing.assert_allclose(to_unit_float(wide), wide / 65535.0, rtol=1e-6)
    unit = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4, 1)
    assert to_unit_float(unit) is unit


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.01, 1.01, 255.0])
def test_to_unit_float__range(wrong: float) -> None:
    image = np.full((2, 2, 3), 0.5, np.float32)
    image[1, 0, 2] = wrong
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        to_unit_float(image)


def test_to_unit_float__other_types() -> None:
    with pytest.raises(DataError, match="int32"):
        to_unit_float(np.zeros((2, 2, 1), np.int32))


def test_to_display__all_types() -> None:
    copy = to_display(NOISE)
    np.testing.assert_array_equal(copy, NOISE[..., :3])
    assert not np.shares_memory(copy, NOISE)
    np.testing.assert_array_equal(to_display(NOISE.astype(np.uint16) * 257), NOISE[..., :3])
    np.testing.assert_array_equal(to_display(NOISE.astype(np.float32) / 255), NOISE[..., :3])
    odd = np.array([[[np.nan], [np.inf], [-np.inf], [2.0]]], np.float32)
    assert to_display(odd)[0, :, 0].tolist() == [0, 255, 0, 255]
    assert to_display(np.zeros((2, 2, 9), np.uint8)).shape == (2, 2, 3)


# Writing

EXACT = [(suffix, channels) for suffix in (".png", ".tif", ".tiff", ".webp") for channels in (1, 3, 4)]


@pytest.mark.parametrize(("suffix", "channels"), [*EXACT, (".bmp", 1), (".bmp", 3)])
def test_write_image__pillow_reads_the_same_pixels(suffix: str, channels: int, tmp_path: Path) -> None:
    image = NOISE[..., :channels]
    write_image(tmp_path / f"a{suffix}", image)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        expected = np.asarray(opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    np.testing.assert_array_equal(expected.reshape(image.shape), image)
    result = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(result, to_rgb(image) if suffix == ".webp" and channels == 1 else image)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_write_image__16_bits_round_trip(suffix: str, channels: int, tmp_path: Path) -> None:
    image = RNG.integers(0, 65536, (8, 9, channels)).astype(np.uint16)
    write_image(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), image)


def test_write_image__jpeg_is_close(tmp_path: Path) -> None:
    image = smooth()
    write_image(tmp_path / "a.JPG", image)
    assert np.abs(read_image(tmp_path / "a.JPG").astype(int) - image).mean() < 2
    write_image(tmp_path / "b.jpg", image[..., 0])
    assert read_image(tmp_path / "b.jpg").shape == (120, 160, 1)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.jpg", NOISE, "to_rgb"),
        ("a.jpg", NOISE[..., :3].astype(np.uint16), "uint16"),
        ("a.png", NOISE.astype(np.float32), "float32"),
        ("a.png", np.zeros((2, 2, 2), np.uint8), r"\(2, 2, 2\)"),
        ("a.png", np.zeros((0, 2, 3), np.uint8), r"\(0, 2, 3\)"),
        ("a.webp", np.zeros((2, 20_000, 3), np.uint8), "20000"),
    ],
)
def test_write_image__unsupported_by_the_format(name: str, image: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_write_image__unknown_suffix_and_folder_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, .*\.bmp"):
        write_image(tmp_path / "a.xyz", NOISE)
    (tmp_path / "file").touch()
    with pytest.raises(DenseVisionError, match="cannot write"):
        write_image(tmp_path / "file" / "a.png", NOISE)


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif"])
def test_read_image__memory_of_a_large_image(name: str, tmp_path: Path, peak_kib: str) -> None:
    side = 12_000
    write_image(tmp_path / "small.png", NOISE)
    large = cv2.resize(NOISE[:6, :6, :3], (side, side), interpolation=cv2.INTER_LINEAR)
    if name.endswith(".tif"):
        tifffile.imwrite(tmp_path / name, large, photometric="rgb")
    else:
        cv2.imwrite(str(tmp_path / name), large)
    del large
    program = (
        "import sys\n"
        "from densevision.io.image import read_image\n"
        f"peak = lambda: {peak_kib}\n"
        "read_image(sys.argv[1]); before = peak()\n"
        "image = read_image(sys.argv[2]); print((peak() - before) * 1024 - image.nbytes)"
    )
    files = [str(tmp_path / "small.png"), str(tmp_path / name)]
    process = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert int(process.stdout) < 100e6
