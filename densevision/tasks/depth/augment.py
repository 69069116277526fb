"""Random augmentation of a training sample: one warp that ends in a crop, an erased rectangle, and colors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.ops.view import Size
from densevision.sample import Sample
from densevision.tasks.depth.config import DepthAugment

__all__ = ["augment_sample", "random_crop"]

ERASED_FRACTION = (0.1, 0.4)
"""Smallest and largest side of an erased rectangle relative to the crop's."""


def augment_sample(
    config: DepthAugment, sample: Sample, rng: np.random.Generator, crop: Size, shorter: int | None = None
) -> Sample:
    """Augments a training sample.

    Args:
        config: Ranges and probabilities.
        sample: An image with its ground truth, or a rectified pair ("image" and "right").
        rng: Source of all randomness.
        crop: (height, width) of the result.
        shorter: Size that the shorter side of the image is scaled to first.
    """
    is_pair = "right" in sample.images
    is_flipped = bool(rng.random() < config.flip) if is_pair else None
    flip = config.flip if is_flipped is None else float(is_flipped)
    matrix = random_crop(config, rng, sample.size, crop, shorter, flip)
    sample = warp_sample(sample, matrix, crop, 0.0)
    if is_flipped:
        # A flip exchanges left and right; the ground truth was that of the other image.
        left, right = sample.images["image"], sample.images["right"]
        sample = replace(sample, images={"image": right, "right": left}, truth=None)
    return recolor(config, _erase(config, sample, rng), rng)


def random_crop(
    config: DepthAugment, rng: np.random.Generator, size: Size, crop: Size, shorter: int | None, flip: float
) -> np.ndarray:
    """Draws a map that scales, rotates and flips an image and cuts out a crop that the image fills.

    The corners of rotated crops may stay empty. The number of draws does not depend on the config, so that an option
    changes nothing but itself.

    Returns:
        (2, 3) map from image to crop, in corner coordinates.
    """
    sides, target = np.array(size[::-1], float), np.array(crop[::-1], float)
    base = shorter / min(size) if shorter else 1.0
    scale = max(base * math.exp(rng.uniform(*np.log(config.scale))), float((target / sides).max()))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    mirror = np.array([-1.0 if rng.random() < flip else 1.0, 1.0])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * rotation * mirror
    center = target / 2 + rng.uniform(-0.5, 0.5, 2) * (sides * scale - target)
    return np.column_stack([linear, center - linear @ (sides / 2)])


def _erase(config: DepthAugment, sample: Sample, rng: np.random.Generator) -> Sample:
    """Fills a rectangle of the image with its mean color; its depth remains a target."""
    draw, sides, place = rng.random(), rng.uniform(*ERASED_FRACTION, 2), rng.random(2)
    if draw >= config.erase:
        return sample
    image = sample.images["image"].copy()
    size = np.array(image.shape[:2])
    extent = np.maximum(1, sides * size).astype(int)
    top, left = (place * (size - extent + 1)).astype(int)
    image[top : top + extent[0], left : left + extent[1]] = image.reshape(-1, image.shape[2]).mean(0)
    return replace(sample, images={**sample.images, "image": image})
