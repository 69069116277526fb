"""PSNR and SSIM against scikit-image and plain arithmetic, and the protocols that their names state."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.image_quality import ImageMetric, psnr, rgb_to_luma, ssim
from densevision.results import Image


def make_pair(size=(40, 50), channels=3, seed=0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (*size, channels), np.uint8)
    other = np.clip(one.astype(int) + rng.integers(-30, 31, one.shape), 0, 255).astype(np.uint8)
    return one, other


@pytest.mark.parity
@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim__equal_scikit_image(channels: int):
    metrics = pytest.importorskip("skimage.metrics")
    one, other = make_pair(channels=channels)
    assert psnr(one, other) == pytest.approx(metrics.peak_signal_noise_ratio(one, other, data_range=255), abs=1e-9)
    expected = metrics.structural_similarity(
        one.astype(float), other.astype(float), data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(one, other) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parity
def test_luma__equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    one, _ = make_pair()
    np.testing.assert_allclose(rgb_to_luma(one.astype(float)), color.rgb2ycbcr(one)[..., 0], atol=1e-9)


def test_psnr__known_values():
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 255.0)) == 0
    assert psnr(np.zeros((4, 4)), np.full((4, 4), 2.55)) == pytest.approx(40)
    assert psnr(np.ones(3), np.ones(3)) == math.inf


def test_psnr__unknown_pixels_are_ignored():
    truth = np.array([[0.0, np.nan], [10.0, 10.0]])
    assert psnr(np.array([[0.0, 99.0], [10.0, 11.0]]), truth) == pytest.approx(10 * math.log10(255**2 * 3))
    assert math.isnan(psnr(truth[:1, 1:], truth[:1, 1:]))


def test_metric__crop_and_luma():
    one, other = make_pair()
    metric = ImageMetric("Y", 4)
    metric.update(Image.from_source(other), Image.from_source(one), "a")
    inside = np.s_[4:-4, 4:-4]
    expected = psnr(*(np.rint(rgb_to_luma(image.astype(float)))[inside] for image in (one, other)))
    assert metric.compute()["PSNR_Y_crop4"] == pytest.approx(expected, abs=1e-9)
    assert list(metric.compute()) == ["PSNR_Y_crop4", "SSIM_Y_crop4"]
    assert metric.protocol["crop"] == 4


def test_metric__predictions_are_rounded_to_the_levels_of_the_truth():
    truth = Image.from_source(np.full((20, 20, 3), 100, np.uint8))
    prediction = Image.from_source(np.full((20, 20, 3), 100.4 / 255, np.float32))
    metric = ImageMetric()
    metric.update(prediction, truth, 0)
    assert metric.compute()["PSNR_RGB_crop0"] == math.inf
    exact = ImageMetric()
    exact.update(prediction, Image.from_source(truth.unit()), 0)
    assert exact.compute()["PSNR_RGB_crop0"] == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-3)


def test_metric__16_bits_have_the_same_scale():
    one, other = make_pair()
    narrow, wide = ImageMetric(), ImageMetric()
    narrow.update(Image.from_source(other), Image.from_source(one), 0)
    wide.update(Image.from_source(other.astype(np.uint16) * 257), Image.from_source(one.astype(np.uint16) * 257), 0)
    assert wide.compute()["PSNR_RGB_crop0"] == pytest.approx(narrow.compute()["PSNR_RGB_crop0"], abs=1e-6)


def test_metric__order_and_sharding_do_not_matter():
    single, parts = ImageMetric(), [ImageMetric(), ImageMetric()]
    for seed in range(5):
        one, other = (Image.from_source(image) for image in make_pair(seed=seed))
        single.update(other, one, seed)
        parts[seed % 2].update(other, one, seed)
    parts[1].merge(parts[0])
    assert parts[1].compute() == single.compute()
    assert set(single.tables()["per image"]) == {"0", "1", "2", "3", "4"}


def test_metric__images_too_small_are_counted():
    metric = ImageMetric("Y", 2)
    dot = Image.from_source(np.zeros((1, 1, 3), np.uint8))
    metric.update(dot, dot, 0)
    assert metric.counts() == {"images": 0, "images without SSIM": 1}
    assert all(math.isnan(value) for value in metric.compute().values())


def test_metric__different_sizes_or_channels():
    with pytest.raises(DataError):
        ImageMetric().update(
            Image.from_source(np.zeros((4, 4, 3), np.uint8)), Image.from_source(np.zeros((4, 5, 3), np.uint8)), 0
        )
    with pytest.raises(DataError):
        ImageMetric().update(
            Image.from_source(np.zeros((4, 4), np.uint8)), Image.from_source(np.zeros((4, 4, 3), np.uint8)), 0
        )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("color", ["Y", "RGB"])
def test_metric__alpha_is_ignored(channels: int, color: str):
    one, other = make_pair(channels=channels)
    plain, clear = ImageMetric(color), ImageMetric(color)
    plain.update(Image.from_source(other), Image.from_source(one), 0)
    opaque = np.full((*one.shape[:2], 1), 255, np.uint8)
    clear.update(
        Image.from_source(np.concatenate([other, opaque], 2)),
        Image.from_source(np.concatenate([one, opaque // 3], 2)),
        0,
    )
    assert clear.compute() == plain.compute() and clear.protocol["alpha"] == "left out"
    mixed = ImageMetric(color)
    mixed.update(Image.from_source(np.concatenate([other, opaque], 2)), Image.from_source(one), 0)
    assert mixed.compute() == plain.compute()


def test_metric__luma_of_five_channels():
    one, other = (Image.from_source(image) for image in make_pair(channels=5))
    with pytest.raises(DataError, match="5 channels"):
        ImageMetric("Y").update(other, one, 0)
    plain = ImageMetric("RGB")
    plain.update(other, one, 0)
    assert plain.compute()["PSNR_RGB_crop0"] == pytest.approx(psnr(one.image, other.image))


def test_metric__luma_rounded_or_float():
    one, other = (np.tile(np.uint8([value, 120, 120]), (20, 20, 1)) for value in (120, 121))
    rounded, exact = ImageMetric("Y", 0), ImageMetric("Y", 0, "float")
    for metric in (rounded, exact):
        metric.update(Image.from_source(other), Image.from_source(one), 0)
    # One level of red is 65.481 / 255 levels of luma, and here rounds to none.
    assert rounded.compute()["PSNR_Y_crop0"] == math.inf and rounded.protocol["luma"] == "rounded"
    assert exact.compute()["PSNR_Yfloat_crop0"] == pytest.approx(20 * math.log10(255 / (65.481 / 255)))
    assert exact.protocol["luma"] == "float"


def test_metric__exact_images_are_counted_and_left_out_of_the_mean():
    metric, truth = ImageMetric(), np.full((16, 16, 3), 100, np.uint8)
    metric.update(Image.from_source(truth), Image.from_source(truth), "exact")
    assert metric.compute()["PSNR_RGB_crop0"] == math.inf
    metric.update(Image.from_source(truth + 5), Image.from_source(truth), "other")
    expected = 20 * math.log10(255 / 5)
    assert metric.compute()["PSNR_RGB_crop0"] == pytest.approx(expected)
    assert metric.compute()["SSIM_RGB_crop0"] == pytest.approx(np.mean([1.0, metric.values["other"][1]]))
    assert metric.counts() == {"images": 2, "exact images": 1, "images without SSIM": 0}
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])  # resamples of "exact" and "other"
    resampled = metric.per_image().compute_weighted(weights)["PSNR_RGB_crop0"]
    assert resampled[0] == math.inf and resampled[1:] == pytest.approx([expected, expected])


def test_tables__tell_infinite_from_undefined_psnr() -> None:
    """JSON writes both as null."""
    metric = ImageMetric()
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    other = image ^ 1
    for name, prediction in (("same", image), ("other", other)):
        metric.update(Image(image=prediction, size=(16, 16)), Image(image=image, size=(16, 16)), name)
    rows = metric.tables()["per image"]
    name = metric.names[0]
    assert rows["same"][name] == math.inf
    assert (rows["same"][f"exact {name}"], rows["other"][f"exact {name}"]) == (1, 0)
    without = ImageMetric()
    without.update(Image(image=other, size=(16, 16)), Image(image=image, size=(16, 16)), "other")
    assert set(without.tables()["per image"]["other"]) == set(without.names)
