"""Class colors, color maps and contrast."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

__all__ = [
    "INVALID_COLOR",
    "Color",
    "apply_colormap",
    "build_palette",
    "choose_text_color",
    "get_class_color",
    "get_track_color",
    "vary_shade",
]

Color = tuple[int, int, int]
"""RGB, 0 to 255."""

INVALID_COLOR: Color = (64, 64, 64)
"""Color of pixels without a valid value."""

OKABE_ITO = ("E69F00", "56B4E9", "F0E442", "009E73", "CC79A7", "D55E00", "0072B2")
"""Colors of the first classes: the palette of Okabe and Ito, which is safe for color-blind viewers."""

COLOR_VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""Maps of linear RGB that simulate color vision. Source: Machado et al., A Physiologically-based Model for Simulation
of Color Vision Deficiency, TVCG 2009, severity 1."""

COLORMAPS = {"turbo": cv2.COLORMAP_TURBO, "viridis": cv2.COLORMAP_VIRIDIS, "magma": cv2.COLORMAP_MAGMA}


def get_class_color(index: int) -> Color:
    """The color of a class, the same in every image and for every number of classes.

    >>> get_class_color(0)
    (230, 159, 0)
    """
    index = int(index) % len(_build_candidates())
    red, green, blue = build_palette(64 * (index // 64 + 1))[index].tolist()
    return red, green, blue


def get_track_color(track_id: int) -> Color:
    """The color of an identity; gray for -1, which is none. There are 64 colors.

    >>> get_track_color(-1)
    (160, 160, 160)
    """
    return get_class_color(track_id % 64) if track_id >= 0 else (160, 160, 160)


@lru_cache(maxsize=16)
def build_palette(count: int) -> np.ndarray:
    """Builds the first `count` class colors, (count, 3) uint8 RGB, read-only; shorter palettes are prefixes.

    After the Okabe-Ito colors, each color is the one with the largest perceptual distance to all previous ones, in the
    worst of three kinds of color vision. About a hundred colors are distinguishable; after 2500 the palette repeats.
    """
    candidates = _build_candidates()
    # Dichromats see about half of the differences: with equal weights, colors that only others distinguish go unused.
    weights = {"full": 1.0, "protanopia": 2.0, "deuteranopia": 2.0}
    perceived = [weights[name] * _to_oklab(_to_linear(candidates) @ matrix.T) for name, matrix in COLOR_VISION.items()]
    distance = np.full(len(candidates), np.inf)
    indices: list[int] = []
    for step in range(min(count, len(candidates))):
        index = step if step < len(OKABE_ITO) else int(distance.argmax())
        indices.append(index)
        distance_to_new = np.min([np.linalg.norm(lab - lab[index], axis=1) for lab in perceived], axis=0)
        # Rounded, so that the last bits of the processor's arithmetic do not change the palette.
        distance = np.minimum(distance, distance_to_new.round(4))
    colors = np.resize(candidates[indices], (count, 3))
    colors.setflags(write=False)
    return colors


def vary_shade(color: Color, index: int) -> Color:
    """Varies a class color for the objects of the class; index 0 is the color itself, and there are four shades."""
    target, weight = ((0, 0.0), (255, 0.3), (0, 0.25), (255, 0.5))[index % 4]
    red, green, blue = (round(channel + (target - channel) * weight) for channel in color)
    return red, green, blue


def choose_text_color(background: Color) -> Color:
    """Black or white, whichever has the higher contrast to the background (WCAG 2 relative luminance).

    >>> choose_text_color((240, 228, 66)), choose_text_color((0, 0, 128))
    ((0, 0, 0), (255, 255, 255))
    """
    luminance = float(_to_linear(np.asarray(background)) @ (0.2126, 0.7152, 0.0722))
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


def apply_colormap(values: np.ndarray, colormap: str = "turbo") -> np.ndarray:
    """Colors numbers with a color map.

    Args:
        values: (H, W) in [0, 1]; values outside are clipped, and NaN counts as 0.
        colormap: turbo, viridis or magma.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    levels = (np.nan_to_num(values).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, COLORMAPS[colormap])[..., ::-1]).reshape(*values.shape, 3)


@lru_cache(maxsize=1)
def _build_candidates() -> np.ndarray:
    """The Okabe-Ito colors, then a grid of colors that are visible on photos: not too dark, pale or gray."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = _to_oklab(_to_linear(grid)).T
    grid = grid[(lightness > 0.5) & (lightness < 0.92) & (np.hypot(a, b) > 0.09)]
    seeds = [[int(code[start : start + 2], 16) for start in (0, 2, 4)] for code in OKABE_ITO]
    return np.concatenate([seeds, grid]).astype(np.uint8)


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    """8-bit sRGB to linear light in [0, 1] (IEC 61966-2-1)."""
    unit = srgb / 255.0
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


def _to_oklab(linear: np.ndarray) -> np.ndarray:
    """Linear RGB to the perceptual color space Oklab. Source: Ottosson, Oklab, 2020."""
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
