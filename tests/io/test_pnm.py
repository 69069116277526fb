"""PGM and PPM with any maximum: white is the maximum for images, and numbers stay as they are for index maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.image import read_image, read_index_mask, to_unit_float
from densevision.io.pnm import read_pnm

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
COLORS = np.dstack([RAMP, RAMP[:, ::-1], np.ones_like(RAMP)])


def write_pnm(path: Path, unit: np.ndarray, maximum: int, *, plain: bool = False, comment: str = "") -> np.ndarray:
    """Writes an image from 0 to 1 as netpbm defines the format; returns the stored numbers."""
    values = np.rint(unit * maximum).astype(np.int64)
    magic = {(2, False): "P5", (3, False): "P6", (2, True): "P2", (3, True): "P3"}[unit.ndim, plain]
    header = f"{magic}\n{comment}{unit.shape[1]} {unit.shape[0]}\n{maximum}\n".encode()
    data = " ".join(map(str, values.ravel())).encode()
    path.write_bytes(header + (data if plain else values.astype(">u2" if maximum > 255 else "u1").tobytes()))
    return values


@pytest.mark.parametrize("maximum", [1, 15, 127, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("unit", [RAMP, COLORS], ids=["gray", "color"])
def test_read_image__white_is_the_maximum(maximum: int, plain: bool, unit: np.ndarray, tmp_path: Path):
    path = tmp_path / "a.pnm"
    values = write_pnm(path, unit, maximum, plain=plain)
    image = read_image(path)
    assert image.dtype == (np.uint8 if maximum < 256 else np.uint16)
    np.testing.assert_allclose(
        to_unit_float(image).reshape(unit.shape), values / maximum, atol=0.51 / np.iinfo(image.dtype).max
    )


@pytest.mark.parametrize("maximum", [20, 255, 300])
def test_read_index__keeps_the_numbers(maximum: int, tmp_path: Path):
    values = write_pnm(tmp_path / "a.pgm", RAMP, maximum)
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.pgm"), values)
    np.testing.assert_array_equal(read_pnm(tmp_path / "a.pgm", is_raw=True)[..., 0], values)


def test_comments__are_skipped(tmp_path: Path):
    values = write_pnm(tmp_path / "a.pgm", RAMP, 255, comment="# a camera, 255 x 9\n#\n")
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[..., 0], values)


@pytest.mark.parametrize(
    "data",
    [
        b"P5\n4 4\n255\n" + bytes(15),
        b"P5\n4 4\n15\n" + bytes([16] * 16),
        b"P5\n4 4\n70000\n" + bytes(64),
        b"P2\n2 2\n255\n1 2 3",
        b"P2\n2 2\n255\n1 2 3 x",
        b"P2\n2 2\n255\n1 2 3 -4",
        b"P2\n2 2\n255\n1 2 3 1_0",
        b"P1\n2 2\n1 0 7 1",
    ],
    ids=["truncated", "above the maximum", "wide maximum", "few numbers", "letters", "negative", "underscore", "bits"],
)
def test_corrupt__is_an_error(data: bytes, tmp_path: Path):
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "a.pgm")
    assert caught.value.file == tmp_path / "a.pgm"
