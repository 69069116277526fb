"""Augmentation of a training sample: one warp to a crop, then color changes."""

from __future__ import annotations

import math

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.ops.view import Size
from densevision.results import SemanticMap
from densevision.sample import Sample
from densevision.tasks.semantic.config import SemanticAugment

__all__ = ["crop_randomly", "random_crop_matrix"]

GRAY = 0.5
"""Value of the canvas outside the image."""


def crop_randomly(config: SemanticAugment, sample: Sample, rng: np.random.Generator, canvas: Size) -> Sample:
    """Scales, rotates, flips, crops and recolors a sample.

    Args:
        config: The ranges.
        sample: An image with its class map.
        rng: Source of all randomness.
        canvas: Size of the result, (height, width).
    """
    matrix = random_crop_matrix(config, rng, sample, canvas)
    return recolor(config, warp_sample(sample, matrix, canvas, GRAY), rng)


def random_crop_matrix(config: SemanticAugment, rng: np.random.Generator, sample: Sample, canvas: Size) -> np.ndarray:
    """A random affine map (2, 3) from an image to a canvas that the image covers as far as possible.

    The number of random draws does not depend on the config, so that an option changes nothing else.
    """
    scale = math.exp(rng.uniform(*np.log(config.scale)))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    flips = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    position, aim = rng.random(2), rng.random(4)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * rotation * flips
    half = np.array(canvas[::-1]) / 2 / scale
    size = np.array(sample.size[::-1], np.float64)
    bounds = np.sort([half, size - half], 0)  # an image smaller than the crop lies anywhere within it
    center = bounds[0] + position * (bounds[1] - bounds[0])
    if aim[0] < config.aim and isinstance(sample.truth, SemanticMap):
        pixel = _pick_pixel(sample.truth, aim[1], aim[2])
        if pixel is not None:
            center = (pixel + (2 * position - 1) * half * aim[3]).clip(bounds[0], bounds[1])
    return np.column_stack([linear, np.array(canvas[::-1]) / 2 - linear @ center])


def _pick_pixel(truth: SemanticMap, class_draw: float, pixel_draw: float) -> np.ndarray | None:
    """Center (x, y) of a pixel of one of the classes in the map, by two draws in [0, 1); None without any class."""
    masks = [mask for mask in map(truth.mask, range(len(truth.names))) if mask.any()]
    if not masks:
        return None
    pixels = np.flatnonzero(masks[int(class_draw * len(masks))])
    row, column = divmod(int(pixels[int(pixel_draw * len(pixels))]), truth.size[1])
    return np.array([column + 0.5, row + 0.5])
