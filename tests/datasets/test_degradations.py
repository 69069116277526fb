"""Degradations against closed forms, moments of chance, Pillow's JPEG, and MATLAB's published numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from densevision.datasets import degradations as ways


def step(height: int = 32, width: int = 48) -> np.ndarray:
    """Black, then white from the middle on."""
    image = np.zeros((height, width, 3), np.float32)
    image[:, width // 2 :] = 1
    return image


def gray(value: float, side: int = 128, channels: int = 3) -> np.ndarray:
    return np.full((side, side, channels), value, np.float32)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_bicubic__reduces_a_step_by_the_antialiased_cubic_s_weights():
    """Halved, the cubic of twice the width has the weights (-3, -9, 29, 111, 111, 29, -9, -3) / 256 on each side."""
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    found = ways.bicubic(step(), (16, 24))[5, :, 0]
    # Windows of eight pixels that start three pixels before each pair; clipped, as images are.
    line = np.pad(step()[0, :, 0], 3, mode="symmetric")
    wanted = [float(line[2 * x : 2 * x + 8] @ weights) for x in range(24)]
    np.testing.assert_allclose(found, np.clip(wanted, 0, 1), atol=1e-6)


def test_bicubic__keeps_the_number_type():
    image = chance().integers(0, 65536, (12, 16, 1)).astype(np.uint16)
    found = ways.bicubic(image, (6, 8))
    exact = ways.bicubic(image.astype(np.float64) / 65535, (6, 8))
    assert found.dtype == np.uint16 and np.abs(found / 65535 - exact).max() <= 0.51 / 65535


@pytest.mark.parametrize("sigmas", [(1.5, 1.5), (3.0, 1.0)])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_anisotropic_kernel__has_the_covariance_of_its_name(sigmas: tuple[float, float], angle: float):
    kernel = ways.anisotropic_kernel(sigmas, angle, 41).astype(np.float64)
    line = np.arange(41) - 20
    x, y = np.meshgrid(line, line)
    found = np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(found, turn @ np.diag(np.square(sigmas)) @ turn.T, rtol=2e-3, atol=2e-3)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)


def test_anisotropic_kernel__generalised_and_plateau_by_hand():
    """At distance 2 of a bell of sigma 1, q is 4: exp(-q^b / 2) and 1 / (1 + q^b) against the center's 1."""
    for profile, shape, ratio in (("generalised", 0.5, np.exp(-1)), ("plateau", 1.5, 1 / 9)):
        kernel = ways.anisotropic_kernel((1.0, 1.0), 0.3, 21, profile, shape)
        assert kernel[10, 12] / kernel[10, 10] == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("length", [0.0, 5.0, 8.5])
def test_motion_kernel__along_a_row_is_a_box(length: float):
    kernel = ways.motion_kernel(length, 0.0)
    side = len(kernel)
    assert kernel.sum() == pytest.approx(1, abs=1e-6) and side % 2 == 1
    row = kernel[side // 2]
    assert row.sum() == pytest.approx(1, abs=1e-6)  # nothing leaves the row
    if length:
        box = (length / 2 + 0.5 - np.abs(np.arange(side) - side // 2)).clip(0, 1) / length
        np.testing.assert_allclose(row, box, atol=1e-6)


def test_motion_kernel__turns_and_is_as_long_as_it_says():
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


def test_blurred__is_a_convolution_not_a_correlation():
    point = np.zeros((9, 9, 1), np.float32)
    point[4, 4] = 1
    kernel = chance().random((3, 3)).astype(np.float32)
    np.testing.assert_allclose(ways.blurred(point, kernel)[3:6, 3:6, 0], kernel, atol=1e-6)


def test_sinc_kernel__passes_below_its_limit_and_stops_above():
    kernel = ways.sinc_kernel(np.pi / 2, 41).astype(np.float64)
    answer = np.abs(np.fft.fft2(kernel, (256, 256)))[0]
    assert answer[:32] == pytest.approx(1, abs=0.12) and answer[100:129].max() < 0.1


@pytest.mark.parametrize("gray_noise", [False, True])
def test_gaussian_noise__mean_spread_and_color(gray_noise: bool):
    noise = ways.with_gaussian_noise(gray(0.5), 0.05, chance(), gray_noise) - 0.5
    assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(0.05, rel=0.02)
    assert np.array_equal(noise[..., 0], noise[..., 1]) == gray_noise


@pytest.mark.parametrize("value", [0.2, 0.6])
@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_poisson_noise__variance_is_the_value_s(value: float, strength: float):
    noise = ways.with_poisson_noise(gray(value), strength, chance()) - np.float32(value)
    assert noise.mean() == pytest.approx(0, abs=2e-3)
    assert noise.var() == pytest.approx(strength * value / 255, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_compressed__is_jpeg_of_this_quality(channels: int):
    """Pillow writes and reads the same standard; the two differ by rounding of colors alone."""
    image = ways.bicubic(chance().random((6, 8, channels)).astype(np.float32), (48, 64))
    for quality in (20, 80):
        pixels = np.rint(image * 255).astype(np.uint8)
        stream = io.BytesIO()
        mode = "L" if channels == 1 else "RGB"
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode).save(stream, "jpeg", quality=quality)
        wanted = np.asarray(Image.open(stream)).reshape(image.shape)
        found = np.rint(ways.compressed(image, quality) * 255)
        assert np.abs(found - wanted).mean() < 1, quality
        assert np.abs(found - pixels).mean() > 0.3


def test_compressed__other_channels_come_back():
    image = gray(0.3, 8, 5)
    assert ways.compressed(image, 10) is image


@pytest.mark.parametrize("size", [(16, 24), (32, 48)])
def test_second_order__any_scale_in_range_and_of_the_seed(size: tuple[int, int]):
    image = ways.bicubic(chance().random((6, 8, 3)).astype(np.float32), (64, 96))
    seen, likeness = set(), []
    own = ways.bicubic(image, size)
    for seed in range(12):
        found = ways.second_order(image, size, chance(seed))
        assert found.shape == (*size, 3) and found.min() >= 0 and found.max() <= 1 and found.dtype == np.float32
        np.testing.assert_array_equal(found, ways.second_order(image, size, chance(seed)))
        seen.add(found.tobytes())
        likeness.append(np.corrcoef(found.ravel(), own.ravel())[0, 1])
    # Spoilt, each in its own way, but still the image.
    assert len(seen) == 12 and min(likeness) > 0.2 and 0.6 < np.mean(likeness) < 0.99
