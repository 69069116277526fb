"""Color profiles and resolutions: read from every format, and written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageCms

import densevision
from densevision.io.image import read_image, write_image
from densevision.io.image_metadata import ImageMetadata, read_image_metadata
from densevision.io.png import write_png

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
METADATA = ImageMetadata(PROFILE, (300.0, 300.0))


def make_pixels(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 16, channels), dtype)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_write_image__keeps_what_the_format_holds(suffix: str, tmp_path: Path):
    path = tmp_path / f"a{suffix}"
    write_image(path, make_pixels(), METADATA)
    metadata = read_image_metadata(path)
    assert metadata.icc_profile == (None if suffix == ".bmp" else PROFILE)
    assert metadata.dpi is None if suffix == ".webp" else metadata.dpi == pytest.approx((300, 300), abs=0.05)
    with PillowImage.open(path) as image:  # another reader agrees
        assert (image.info.get("icc_profile") or None) == metadata.icc_profile


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_png__pixels_are_unchanged(dtype: type, channels: int, tmp_path: Path):
    pixels = make_pixels(channels, dtype)
    write_image(tmp_path / "a.png", pixels, METADATA)
    write_png(tmp_path / "b.png", [pixels[:5], pixels[5:]], pixels.shape[:2], METADATA)
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)
        assert read_image_metadata(tmp_path / name).icc_profile == PROFILE


def test_profile__only_for_its_color_space(tmp_path: Path):
    write_image(tmp_path / "gray.png", make_pixels(1), METADATA)
    assert read_image_metadata(tmp_path / "gray.png").icc_profile is None
    assert METADATA.profile_for(4) == PROFILE and METADATA.profile_for(1) is None


def test_read__nothing_where_there_is_nothing(tmp_path: Path):
    write_image(tmp_path / "a.png", make_pixels())
    (tmp_path / "b.png").write_bytes(b"not an image")
    for path in ("", tmp_path / "missing.png", tmp_path / "a.png", tmp_path / "b.png"):
        assert read_image_metadata(path) == ImageMetadata()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("options", [{}, {"tile": 32}], ids=["whole", "tiled"])
def test_superres__results_inherit_profile_and_resolution(name: str, options: dict[str, int], tmp_path: Path):
    if name == "a.tif":  # 16 bits, which Pillow cannot read
        tifffile.imwrite(
            tmp_path / name, make_pixels(3, np.uint16), photometric="rgb", iccprofile=PROFILE, resolution=(300, 300),
            resolutionunit="INCH",
        )  # fmt: skip
    else:
        PillowImage.fromarray(make_pixels()).save(tmp_path / name, icc_profile=PROFILE, dpi=(300, 300))
    result = densevision.predict(tmp_path / name, task="superres", weights="bicubic", **options)
    for suffix in (".png", ".tif"):
        saved = read_image_metadata(result.save(tmp_path / f"out{suffix}"))
        assert saved.icc_profile == PROFILE and saved.dpi == pytest.approx((300, 300), abs=0.05)
