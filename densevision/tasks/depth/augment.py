"""What chance does to a training sample: one warp that ends in a crop, a hidden rectangle, and colors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.ops.view import Size
from densevision.sample import Sample
from densevision.tasks.depth.config import DepthAugment

EYES = ("image", "right")
HIDDEN = (0.1, 0.4)
"""Least and largest side of a hidden rectangle, as a part of the crop's."""


def augmented(
    config: DepthAugment, sample: Sample, rng: np.random.Generator, crop: Size, shorter: int | None = None
) -> Sample:
    """A training sample on its crop.

    Args:
        config: What chance may do.
        sample: An image with its truth, or a pair of images.
        rng: All the chance.
        crop: (height, width) of the result.
        shorter: What the shorter side of the image is brought to first.
    """
    if "right" not in sample.images:
        sample = _warped(config, sample, rng, crop, shorter, config.flip)
    else:
        mirrored = bool(rng.random() < config.flip)
        sample = _warped(config, sample, rng, crop, shorter, float(mirrored))
        if mirrored:
            # In a mirror the right eye is the left one; the truth was that of the other.
            left, right = (sample.images[eye] for eye in EYES)
            sample = replace(sample, images=dict(zip(EYES, (right, left))), truth=None)
    return recolor(config, _hidden(config, sample, rng), rng)


def random_crop(
    config: DepthAugment, rng: np.random.Generator, size: Size, crop: Size, shorter: int | None, flip: float
) -> np.ndarray:
    """A map that scales, turns and mirrors an image and cuts a crop out of it, which the image fills.

    Where it is turned, its corners may stay empty. As many numbers are drawn whatever the config says, so that an
    option changes nothing but itself.

    Returns:
        (2, 3) map from image to crop, in corner coordinates.
    """
    sides, target = np.array(size[::-1], float), np.array(crop[::-1], float)
    usual = shorter / min(size) if shorter else 1.0
    scale = max(usual * math.exp(rng.uniform(*np.log(config.scale))), float((target / sides).max()))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    mirror = np.array([-1.0 if rng.random() < flip else 1.0, 1.0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn * mirror
    middle = target / 2 + rng.uniform(-0.5, 0.5, 2) * (sides * scale - target)
    return np.column_stack([linear, middle - linear @ (sides / 2)])


def _warped(
    config: DepthAugment, sample: Sample, rng: np.random.Generator, crop: Size, shorter: int | None, flip: float
) -> Sample:
    return warp_sample(sample, random_crop(config, rng, sample.size, crop, shorter, flip), crop, 0.0)


def _hidden(config: DepthAugment, sample: Sample, rng: np.random.Generator) -> Sample:
    """The image with a rectangle in its mean color; its depth is still asked for."""
    chance, sides, place = rng.random(), rng.uniform(*HIDDEN, 2), rng.random(2)
    if chance >= config.hide:
        return sample
    image = sample.images["image"].copy()
    size = np.array(image.shape[:2])
    extent = np.maximum(1, sides * size).astype(int)
    top, left = (place * (size - extent + 1)).astype(int)
    image[top : top + extent[0], left : left + extent[1]] = image.reshape(-1, image.shape[2]).mean(0)
    return replace(sample, images={**sample.images, "image": image})
