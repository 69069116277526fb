"""Colors: stable, distinguishable with color vision deficiencies, and equal to the color maps of matplotlib."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest

from densevision.draw import colors
from densevision.draw.colors import apply_colormap, build_palette, choose_text_color, get_class_color, vary_shade


def test_get_class_color__first_twelve_are_fixed():
    expected = "E69F00 56B4E9 F0E442 009E73 CC79A7 D55E00 0072B2 9900FF 44FFEE AA2277 EE00FF 00DD77"
    assert " ".join(bytes(get_class_color(index)).hex().upper() for index in range(12)) == expected


def test_build_palette__shorter_one_is_a_prefix():
    np.testing.assert_array_equal(build_palette(300)[:40], build_palette(40))
    assert [get_class_color(index) for index in range(200)] == [tuple(row) for row in build_palette(200).tolist()]


def test_build_palette__five_hundred_differ():
    assert len(np.unique(build_palette(500), axis=0)) == 500


def test_get_class_color__any_index():
    assert get_class_color(10**9) == get_class_color(10**9)
    assert len(get_class_color(10**9)) == 3


@pytest.mark.parametrize("vision", colors.COLOR_VISION)
def test_build_palette__first_twenty_are_distinguishable(vision):
    perceived = colors._to_oklab(colors._to_linear(build_palette(20)) @ colors.COLOR_VISION[vision].T)
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(perceived, 2))
    assert nearest > 0.05  # a just noticeable difference in Oklab is about 0.02


def test_oklab__published_values():
    # CSS Color 4 gives these for white and for sRGB red.
    white, red = colors._to_oklab(colors._to_linear(np.array([[255, 255, 255], [255, 0, 0]])))
    np.testing.assert_allclose(white, (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(red, (0.627955, 0.224863, 0.125846), atol=1e-5)


def test_choose_text_color__contrast_on_class_colors():
    for background in build_palette(200).tolist():
        pair = [choose_text_color(tuple(background)), tuple(background)]
        dark, light = sorted(float(colors._to_linear(np.array(color)) @ (0.2126, 0.7152, 0.0722)) for color in pair)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_vary_shade__first_is_the_color_and_four_differ():
    assert vary_shade((10, 200, 90), 0) == (10, 200, 90)
    assert len({vary_shade((10, 200, 90), index) for index in range(4)}) == 4


@pytest.mark.parametrize("name", ["turbo", "viridis", "magma"])
def test_apply_colormap__equals_matplotlib(name):
    values = np.linspace(0, 1, 256)[None]
    expected = matplotlib.colormaps[name](values)[..., :3] * 255
    assert np.abs(apply_colormap(values, name) - expected).max() <= 1.5


def test_apply_colormap__clips_and_treats_nan_as_zero():
    low, high, unknown = apply_colormap(np.array([[-3.0, 7.0, np.nan]]))[0]
    np.testing.assert_array_equal(low, apply_colormap(np.zeros((1, 1)))[0, 0])
    np.testing.assert_array_equal(high, apply_colormap(np.ones((1, 1)))[0, 0])
    np.testing.assert_array_equal(unknown, low)
