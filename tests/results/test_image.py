"""The image record: files, warps and drawings."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.image import read_image
from densevision.io.png import write_png
from densevision.results import Image
from densevision.results import image as image_module


def pixels(channels: int = 3, dtype: type = np.uint8, size: tuple[int, int] = (10, 14)) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype is np.float32:
        return rng.random((*size, channels), np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels), dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("streamed", [False, True])
def test_save__png_is_lossless(
    dtype: type, channels: int, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if streamed:
        monkeypatch.setattr(image_module, "STRIP_BYTES", 0)
        monkeypatch.setattr(image_module, "STRIP_ROWS", 4)
    image = pixels(channels, dtype)
    path = Image.from_source(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path), image)


def test_save__floats_have_16_bits_in_png(tmp_path: Path):
    image = pixels(dtype=np.float32)
    image[0, 0] = np.nan
    saved = read_image(Image.from_source(image).save(tmp_path / "a.png"))
    assert saved.dtype == np.uint16 and not saved[0, 0].any()
    np.testing.assert_allclose(saved[1:] / 65535, image[1:], atol=1e-5)
    np.testing.assert_array_equal(np.load(Image.from_source(image).save(tmp_path / "a.npy")), image)


def test_write_png__checks_the_rows(tmp_path: Path):
    with pytest.raises(DataError, match="6 of 7 rows"):
        write_png(tmp_path / "a.png", [pixels(size=(3, 5))] * 2, (7, 5))
    with pytest.raises(DataError, match=r"\(10, 14, 2\)"):
        write_png(tmp_path / "a.png", [pixels(2)], (10, 14))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_warp__maps_the_input_image(scale: int):
    image = pixels(size=(6 * scale, 8 * scale))
    warped = Image.from_source(image, scale).warp(np.array([[1.0, 0, 2], [0, 1, 1]]), (8, 9))
    assert warped.size == (8 * scale, 9 * scale) and warped.scale == scale
    known = np.isfinite(warped.image).all(2)
    assert not known[:scale].any() and not known[:, : 2 * scale].any()
    inside = warped.image[scale : 7 * scale, 2 * scale :]
    np.testing.assert_allclose(inside, image[:, : 7 * scale] / np.float32(255), atol=1e-6)


def test_warp__flipping_twice_is_the_identity():
    image = pixels(dtype=np.float32)
    mirror = np.array([[-1.0, 0, 14], [0, 1, 0]])
    restored = Image.from_source(image).warp(mirror, (10, 14)).warp(mirror, (10, 14))
    np.testing.assert_allclose(restored.image, image, atol=1e-6)


def test_draw__input_and_result():
    image = pixels(size=(20, 28))
    drawn = Image.from_source(image, 2, source=image[::2, ::2]).draw()
    assert drawn.shape == (20, 28 * 2 + image_module.GAP, 3)
    np.testing.assert_array_equal(drawn[:, -28:], image)
    np.testing.assert_array_equal(drawn[::2, :28:2], image[::2, ::2])
    np.testing.assert_array_equal(Image.from_source(image).draw(), image)


def test_save__drawn_suffix(tmp_path: Path):
    image = pixels(size=(20, 28))
    result = Image.from_source(image, 2, source=image[::2, ::2])
    np.testing.assert_array_equal(read_image(result.save(tmp_path / "a.drawn.png")), result.draw())
    np.testing.assert_array_equal(read_image(result.save(tmp_path / "a.drawing.png")), image)


def test_to_dict__contains_the_image():
    for image in (pixels(4, np.uint16), pixels(dtype=np.float32), pixels(5)):
        saved = Image.from_source(image).to_dict()
        data = base64.b64decode(saved["data"])
        if saved["format"] == "png":
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
        else:
            decoded = np.load(io.BytesIO(data))
        np.testing.assert_array_equal(decoded, image)
        assert saved["type"] == image.dtype.name and saved["channels"] == image.shape[2]


def test_warp__averages_where_the_image_shrinks() -> None:
    """Each pixel is the mean of its block of 4 x 4; a block with an unknown pixel is unknown."""
    image = np.random.default_rng(0).random((32, 48, 3)).astype(np.float32)
    image[5, 9] = np.nan
    quarter = np.array([[0.25, 0, 0], [0, 0.25, 0]])
    warped = Image.from_source(image).warp(quarter, (8, 12)).image
    expected = image.reshape(8, 4, 12, 4, 3).mean((1, 3))
    assert np.isnan(expected).any(2).sum() == 1 and np.isnan(warped[1, 2]).all()
    np.testing.assert_allclose(warped, expected, atol=1e-6)


def test_warp__lines_of_one_pixel_turn_gray() -> None:
    """Shrunk to 0.4 without averaging, they would alias to other lines."""
    lines = np.zeros((60, 60, 1), np.float32)
    lines[:, ::2] = 1
    warped = Image.from_source(lines).warp(np.array([[0.4, 0, 0], [0, 0.4, 0]]), (24, 24)).image
    np.testing.assert_allclose(warped[1:-1, 1:-1], 0.5, atol=1e-6)


def test_warp__small_changes_of_size_are_as_before() -> None:
    image = np.random.default_rng(0).random((20, 20, 1)).astype(np.float32)
    shifted = Image.from_source(image).warp(np.array([[1.0, 0, 2], [0, 1, 3]]), (20, 20)).image
    np.testing.assert_allclose(shifted[3:, 2:], image[:-3, :-2], atol=1e-6)
    assert np.isnan(shifted[:3]).all() and np.isnan(shifted[:, :2]).all()
