"""A training sample: one warp that ends in a crop, then colors."""

from __future__ import annotations

import math

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.ops.view import Size
from densevision.results import SemanticMap
from densevision.sample import Sample
from densevision.tasks.semantic.config import SemanticAugment

GRAY = 0.5
"""What surrounds an image on its canvas."""


def cropped(config: SemanticAugment, sample: Sample, rng: np.random.Generator, canvas: Size) -> Sample:
    """The sample on its canvas, scaled, turned, mirrored and cropped by chance, in other colors.

    Args:
        config: The ranges.
        sample: An image with its class map.
        rng: All the chance.
        canvas: Size of the result, (height, width).
    """
    matrix = crop_matrix(config, rng, sample, canvas)
    return recolor(config, warp_sample(sample, matrix, canvas, GRAY), rng)


def crop_matrix(config: SemanticAugment, rng: np.random.Generator, sample: Sample, canvas: Size) -> np.ndarray:
    """A random map (2, 3) from an image to a canvas that the image fills as far as it can.

    As many numbers are drawn whatever the config says, so that an option changes nothing but itself.
    """
    scale = math.exp(rng.uniform(*np.log(config.scale)))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    mirror = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    place, aimed = rng.random(2), rng.random(4)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn * mirror
    half = np.array(canvas[::-1]) / 2 / scale
    size = np.array(sample.size[::-1], np.float64)
    ends = np.sort([half, size - half], 0)  # an image smaller than the crop lies somewhere within it
    center = ends[0] + place * (ends[1] - ends[0])
    if aimed[0] < config.aim and isinstance(sample.truth, SemanticMap):
        target = _pixel_of_some_class(sample.truth, aimed[1], aimed[2])
        if target is not None:
            center = (target + (2 * place - 1) * half * aimed[3]).clip(ends[0], ends[1])
    middle = np.array(canvas[::-1]) / 2
    return np.column_stack([linear, middle - linear @ center])


def _pixel_of_some_class(truth: SemanticMap, which: float, where: float) -> np.ndarray | None:
    """The center (x, y) of a pixel of one of the classes that are there; None where nothing is known."""
    there = [mask for mask in map(truth.mask, range(len(truth.names))) if mask.any()]
    if not there:
        return None
    pixels = np.flatnonzero(there[int(which * len(there))])
    row, column = divmod(int(pixels[int(where * len(pixels))]), truth.size[1])
    return np.array([column + 0.5, row + 0.5])
