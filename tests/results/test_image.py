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
