"""PSNR and SSIM against scikit-image, written-out arithmetic, and the protocol in their names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.image_quality import ImageMetric, luma, psnr, ssim
from densevision.results import Image


def pair(size=(40, 50), channels=3, seed=0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (*size, channels), np.uint8)
    other = np.clip(one.astype(int) + rng.integers(-30, 31, one.shape), 0, 255).astype(np.uint8)
    return one, other


@pytest.mark.parity
@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim__equal_scikit_image(channels: int):
    metrics = pytest.importorskip("skimage.metrics")
    one, other = pair(channels=channels)
    assert psnr(one, other) == pytest.approx(metrics.peak_signal_noise_ratio(one, other, data_range=255), abs=1e-9)
    wanted = metrics.structural_similarity(
        one.astype(float), other.astype(float), data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(one, other) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parity
def test_luma__equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    one, _ = pair()
    np.testing.assert_allclose(luma(one.astype(float)), color.rgb2ycbcr(one)[..., 0], atol=1e-9)


def test_psnr__known_values():
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 255.0)) == 0
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 2.55)) == pytest.approx(40)
    assert psnr(np.ones(3), np.ones(3)) == math.inf


def test_psnr__unknown_pixels_count_nothing():
    truth = np.array([[0.0, np.nan], [10.0, 10.0]])
    assert psnr(np.array([[0.0, 99.0], [10.0, 11.0]]), truth) == pytest.approx(10 * math.log10(255**2 * 3))
    assert math.isnan(psnr(truth[:1, 1:], truth[:1, 1:]))


def test_metric__crops_and_names_its_protocol():
    one, other = pair()
    metric = ImageMetric("Y", 4)
    metric.update(Image.of(other), Image.of(one), "a")
    inside = np.s_[4:-4, 4:-4]
    wanted = psnr(*(np.rint(luma(image.astype(float)))[inside] for image in (one, other)))
    assert metric.compute()["PSNR_Y_crop4"] == pytest.approx(wanted, abs=1e-9)
    assert list(metric.compute()) == ["PSNR_Y_crop4", "SSIM_Y_crop4"]
    assert metric.protocol["crop"] == 4


def test_metric__answers_are_rounded_to_the_levels_of_the_truth():
    truth = Image.of(np.full((20, 20, 3), 100, np.uint8))
    answer = Image.of(np.full((20, 20, 3), 100.4 / 255, np.float32))
    metric = ImageMetric()
    metric.update(answer, truth, 0)
    assert metric.compute()["PSNR_RGB_crop0"] == math.inf
    exact = ImageMetric()
    exact.update(answer, Image.of(truth.unit()), 0)
    assert exact.compute()["PSNR_RGB_crop0"] == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-3)


def test_metric__16_bits_are_judged_on_the_same_scale():
    one, other = pair()
    narrow, wide = ImageMetric(), ImageMetric()
    narrow.update(Image.of(other), Image.of(one), 0)
    wide.update(Image.of(other.astype(np.uint16) * 257), Image.of(one.astype(np.uint16) * 257), 0)
    assert wide.compute()["PSNR_RGB_crop0"] == pytest.approx(narrow.compute()["PSNR_RGB_crop0"], abs=1e-6)


def test_metric__order_and_shards_change_nothing():
    whole, parts = ImageMetric(), [ImageMetric(), ImageMetric()]
    for seed in range(5):
        one, other = (Image.of(image) for image in pair(seed=seed))
        whole.update(other, one, seed)
        parts[seed % 2].update(other, one, seed)
    parts[1].merge(parts[0])
    assert parts[1].compute() == whole.compute()
    assert set(whole.tables()["per image"]) == {"0", "1", "2", "3", "4"}


def test_metric__images_too_small_are_counted():
    metric = ImageMetric("Y", 2)
    dot = Image.of(np.zeros((1, 1, 3), np.uint8))
    metric.update(dot, dot, 0)
    assert metric.counts() == {"images": 0, "images without SSIM": 1}
    assert all(math.isnan(value) for value in metric.compute().values())


def test_metric__sizes_must_fit():
    with pytest.raises(DataError, match="differ in height or width"):
        ImageMetric().update(Image.of(np.zeros((4, 4, 3), np.uint8)), Image.of(np.zeros((4, 5, 3), np.uint8)), 0)
    with pytest.raises(DataError, match=r"differ in channels.*Write both in gray, or both in color"):
        ImageMetric().update(Image.of(np.zeros((4, 4), np.uint8)), Image.of(np.zeros((4, 4, 3), np.uint8)), 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("color", ["Y", "RGB"])
def test_metric__alpha_counts_nothing(channels: int, color: str):
    one, other = pair(channels=channels)
    plain, clear = ImageMetric(color), ImageMetric(color)
    plain.update(Image.of(other), Image.of(one), 0)
    opaque = np.full((*one.shape[:2], 1), 255, np.uint8)
    clear.update(Image.of(np.concatenate([other, opaque], 2)), Image.of(np.concatenate([one, opaque // 3], 2)), 0)
    assert clear.compute() == plain.compute() and clear.protocol["alpha"] == "left out"
    mixed = ImageMetric(color)
    mixed.update(Image.of(np.concatenate([other, opaque], 2)), Image.of(one), 0)
    assert mixed.compute() == plain.compute()


def test_metric__more_channels_have_no_luma():
    one, other = (Image.of(image) for image in pair(channels=5))
    with pytest.raises(DataError, match=r"luma is of gray and RGB images \(got '5 channels'\)"):
        ImageMetric("Y").update(other, one, 0)
    plain = ImageMetric("RGB")
    plain.update(other, one, 0)
    assert plain.compute()["PSNR_RGB_crop0"] == pytest.approx(psnr(one.image, other.image))
