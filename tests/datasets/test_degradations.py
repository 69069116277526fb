"""Degradations compared with closed forms, statistical moments, Pillow's JPEG, and MATLAB's published numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from densevision.datasets import degradations as ways


def step(height: int = 32, width: int = 48) -> np.ndarray:
    """An image that is black on the left and white on the right."""
    image = np.zeros((height, width, 3), np.float32)
    image[:, width // 2 :] = 1
    return image


def gray(value: float, side: int = 128, channels: int = 3) -> np.ndarray:
    return np.full((side, side, channels), value, np.float32)


def make_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_resize_bicubic__weights_of_the_antialiased_cubic():
    """The weights of a halving are (-3, -9, 29, 111, 111, 29, -9, -3) / 256."""
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    actual = ways.resize_bicubic(step(), (16, 24))[5, :, 0]
    # Windows of eight pixels that start three pixels before each pair; the result is clipped.
    line = np.pad(step()[0, :, 0], 3, mode="symmetric")
    expected = [float(line[2 * x : 2 * x + 8] @ weights) for x in range(24)]
    np.testing.assert_allclose(actual, np.clip(expected, 0, 1), atol=1e-6)


def test_resize_bicubic__keeps_the_dtype():
    image = make_rng().integers(0, 65536, (12, 16, 1)).astype(np.uint16)
    actual = ways.resize_bicubic(image, (6, 8))
    exact = ways.resize_bicubic(image.astype(np.float64) / 65535, (6, 8))
    assert actual.dtype == np.uint16 and np.abs(actual / 65535 - exact).max() <= 0.51 / 65535


@pytest.mark.parametrize("sigmas", [(1.5, 1.5), (3.0, 1.0)])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_anisotropic_kernel__covariance(sigmas: tuple[float, float], angle: float):
    kernel = ways.anisotropic_kernel(sigmas, angle, 41).astype(np.float64)
    line = np.arange(41) - 20
    x, y = np.meshgrid(line, line)
    actual = np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(actual, turn @ np.diag(np.square(sigmas)) @ turn.T, rtol=2e-3, atol=2e-3)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)


def test_anisotropic_kernel__generalized_and_plateau():
    """At distance 2 for sigma 1, q is 4: exp(-q^b / 2) and 1 / (1 + q^b), relative to the center."""
    for profile, shape, ratio in (("generalized", 0.5, np.exp(-1)), ("plateau", 1.5, 1 / 9)):
        kernel = ways.anisotropic_kernel((1.0, 1.0), 0.3, 21, profile, shape)
        assert kernel[10, 12] / kernel[10, 10] == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("length", [0.0, 5.0, 8.5])
def test_motion_kernel__along_a_row_is_a_box(length: float):
    kernel = ways.motion_kernel(length, 0.0)
    side = len(kernel)
    assert kernel.sum() == pytest.approx(1, abs=1e-6) and side % 2 == 1
    row = kernel[side // 2]
    assert row.sum() == pytest.approx(1, abs=1e-6)  # the kernel is confined to the row
    if length:
        box = (length / 2 + 0.5 - np.abs(np.arange(side) - side // 2)).clip(0, 1) / length
        np.testing.assert_allclose(row, box, atol=1e-6)


def test_motion_kernel__direction_and_length():
    for length, angle in ((9.0, 0.6), (12.0, 2.0)):
        kernel = ways.motion_kernel(length, angle).astype(np.float64)
        line = np.arange(len(kernel)) - len(kernel) // 2
        x, y = np.meshgrid(line, line)
        spread = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
        values, vectors = np.linalg.eigh(spread)
        direction = np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi
        assert direction == pytest.approx(angle, abs=0.02)
        assert np.sqrt(12 * values[1]) == pytest.approx(length, rel=0.1)  # a line of this length has length^2 / 12
        assert values[0] < 0.35


def test_blur__is_a_convolution():
    point = np.zeros((9, 9, 1), np.float32)
    point[4, 4] = 1
    kernel = make_rng().random((3, 3)).astype(np.float32)
    np.testing.assert_allclose(ways.blur(point, kernel)[3:6, 3:6, 0], kernel, atol=1e-6)


def test_sinc_kernel__frequency_response():
    kernel = ways.sinc_kernel(np.pi / 2, 41).astype(np.float64)
    response = np.abs(np.fft.fft2(kernel, (256, 256)))[0]
    assert response[:32] == pytest.approx(1, abs=0.12) and response[100:129].max() < 0.1


@pytest.mark.parametrize("gray_noise", [False, True])
def test_gaussian_noise__mean_and_standard_deviation(gray_noise: bool):
    noise = ways.add_gaussian_noise(gray(0.5), 0.05, make_rng(), gray_noise) - 0.5
    assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(0.05, rel=0.02)
    assert np.array_equal(noise[..., 0], noise[..., 1]) == gray_noise


@pytest.mark.parametrize("value", [0.2, 0.6])
@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_poisson_noise__variance(value: float, strength: float):
    noise = ways.add_poisson_noise(gray(value), strength, make_rng()) - np.float32(value)
    assert noise.mean() == pytest.approx(0, abs=2e-3)
    assert noise.var() == pytest.approx(strength * value / 255, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_compress_jpeg__equals_pillow(channels: int):
    """The codecs differ by rounding of colors only."""
    image = ways.resize_bicubic(make_rng().random((6, 8, channels)).astype(np.float32), (48, 64))
    for quality in (20, 80):
        pixels = np.rint(image * 255).astype(np.uint8)
        stream = io.BytesIO()
        mode = "L" if channels == 1 else "RGB"
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(stream, "jpeg", quality=quality)
        expected = np.asarray(Image.open(stream)).reshape(image.shape)
        actual = np.rint(ways.compress_jpeg(image, quality) * 255)
        assert np.abs(actual - expected).mean() < 1, quality
        assert np.abs(actual - pixels).mean() > 0.3


def test_compress_jpeg__other_channels_are_unchanged():
    image = gray(0.3, 8, 5)
    assert ways.compress_jpeg(image, 10) is image


@pytest.mark.parametrize("size", [(16, 24), (32, 48)])
def test_degrade_second_order__range_and_reproducibility(size: tuple[int, int]):
    image = ways.resize_bicubic(make_rng().random((6, 8, 3)).astype(np.float32), (64, 96))
    seen, correlations = set(), []
    resized = ways.resize_bicubic(image, size)
    for seed in range(12):
        actual = ways.degrade_second_order(image, size, make_rng(seed))
        assert actual.shape == (*size, 3) and actual.min() >= 0 and actual.max() <= 1 and actual.dtype == np.float32
        np.testing.assert_array_equal(actual, ways.degrade_second_order(image, size, make_rng(seed)))
        seen.add(actual.tobytes())
        correlations.append(np.corrcoef(actual.ravel(), resized.ravel())[0, 1])
    # Degraded in different ways, but similar to the image.
    assert len(seen) == 12 and min(correlations) > 0.2 and 0.6 < np.mean(correlations) < 0.99
