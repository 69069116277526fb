"""Colors that tell things apart, and colors that tell how much."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

Color = tuple[int, int, int]

INVALID: Color = (64, 64, 64)
"""Pixels of which nothing is known."""

OKABE_ITO = ("E69F00", "56B4E9", "F0E442", "009E73", "CC79A7", "D55E00", "0072B2")
"""The first classes get the palette that Okabe and Ito made for all kinds of color vision."""

COLOR_VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""Linear RGB as eyes see it. Source: Machado et al., A Physiologically-based Model for Simulation of Color Vision
Deficiency, TVCG 2009, severity 1."""

TABLES = {"turbo": cv2.COLORMAP_TURBO, "viridis": cv2.COLORMAP_VIRIDIS, "magma": cv2.COLORMAP_MAGMA}


def class_color(index: int) -> Color:
    """The color of a class: the same for every image, run and number of classes.

    >>> class_color(0)
    (230, 159, 0)
    """
    index = int(index) % len(_candidates())
    red, green, blue = palette(64 * (index // 64 + 1))[index].tolist()
    return red, green, blue


@lru_cache(maxsize=16)
def palette(count: int) -> np.ndarray:
    """The first `count` class colors, (count, 3) uint8 RGB, read-only; a longer palette starts with a shorter one.

    After the seeds, each color is the one that looks least like all before it to whichever of three kinds of eyes
    confuses it most. A hundred classes can be told apart; after some 2500 the palette repeats.
    """
    candidates = _candidates()
    # Dichromats see about half of the differences: at equal weight, all that they cannot see would stay unused.
    weights = {"full": 1.0, "protanopia": 2.0, "deuteranopia": 2.0}
    seen = [weights[name] * _oklab(_linear(candidates) @ eyes.T) for name, eyes in COLOR_VISION.items()]
    distance = np.full(len(candidates), np.inf)
    chosen: list[int] = []
    for step in range(min(count, len(candidates))):
        pick = step if step < len(OKABE_ITO) else int(distance.argmax())
        chosen.append(pick)
        apart = np.min([np.linalg.norm(lab - lab[pick], axis=1) for lab in seen], axis=0)
        # Rounded, so that the last bits of the processor's arithmetic do not change the palette.
        distance = np.minimum(distance, apart.round(4))
    colors = np.resize(candidates[chosen], (count, 3))
    colors.setflags(write=False)
    return colors


def shade(color: Color, index: int) -> Color:
    """Variations of a class's color that tell its objects apart; the first is the color itself."""
    toward, part = ((0, 0.0), (255, 0.3), (0, 0.25), (255, 0.5))[index % 4]
    red, green, blue = (round(channel + (toward - channel) * part) for channel in color)
    return red, green, blue


def text_color(background: Color) -> Color:
    """Black or white, whichever has the higher contrast on a background (WCAG 2 relative luminance).

    >>> text_color((240, 228, 66)), text_color((0, 0, 128))
    ((0, 0, 0), (255, 255, 255))
    """
    luminance = float(_linear(np.asarray(background)) @ (0.2126, 0.7152, 0.0722))
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


def sequential(values: np.ndarray, table: str = "turbo") -> np.ndarray:
    """Numbers as colors.

    Args:
        values: (H, W) numbers in [0, 1]; beyond it they are clipped, and not-a-number counts as 0.
        table: turbo, viridis or magma.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    levels = (np.nan_to_num(values).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, TABLES[table])[..., ::-1]).reshape(*values.shape, 3)


@lru_cache(maxsize=1)
def _candidates() -> np.ndarray:
    """The seeds, then a grid of colors that are neither too dark, too pale nor too gray to be seen on a photo."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness, a, b = _oklab(_linear(grid)).T
    grid = grid[(lightness > 0.5) & (lightness < 0.92) & (np.hypot(a, b) > 0.09)]
    seeds = [[int(code[at : at + 2], 16) for at in (0, 2, 4)] for code in OKABE_ITO]
    return np.concatenate([seeds, grid]).astype(np.uint8)


def _linear(srgb: np.ndarray) -> np.ndarray:
    """8-bit sRGB to linear light in [0, 1] (IEC 61966-2-1)."""
    part = srgb / 255.0
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def _oklab(linear: np.ndarray) -> np.ndarray:
    """Linear RGB to a space where distance is difference seen. Source: Ottosson, Oklab, 2020."""
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
