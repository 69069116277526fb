"""Random augmentation of a training pair: one warp for both images, colors, and erased rectangles in the second.

Source: Teed and Deng, RAFT, ECCV 2020, section 4, and its published training code.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.ops.view import Size
from densevision.sample import Sample
from densevision.tasks.flow.config import FlowAugment

__all__ = ["augment_sample", "erase", "random_crop", "recolor_pair"]


def augment_sample(config: FlowAugment, sample: Sample, rng: np.random.Generator, crop: Size) -> Sample:
    """Augments a training pair.

    Args:
        config: Ranges and probabilities.
        sample: A pair with its ground truth.
        rng: Source of all randomness.
        crop: (height, width) of the result.
    """
    sample = warp_sample(sample, random_crop(config, rng, sample.size, crop), crop, 0.0)
    return erase(config, recolor_pair(config, sample, rng), rng)


def random_crop(config: FlowAugment, rng: np.random.Generator, size: Size, crop: Size) -> np.ndarray:
    """Draws a map that scales, stretches, rotates and flips an image and cuts out a crop that the image fills.

    The number of draws does not depend on the config, so that an option changes nothing but itself.

    Args:
        config: The ranges.
        rng: Source of all randomness.
        size: (height, width) of the image.
        crop: (height, width).

    Returns:
        (2, 3) map from image to crop, in corner coordinates.
    """
    scale = math.exp(rng.uniform(*np.log(config.scale)))
    stretch = (
        math.exp(rng.uniform(-1, 1) * math.log(config.stretch)) if rng.random() < config.stretch_probability else 1.0
    )
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    mirror = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    sides, target = np.array(size[::-1], float), np.array(crop[::-1], float)
    factors = np.maximum(scale * np.array([stretch, 1 / stretch]) ** 0.5, target / sides)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotation * (factors * mirror)
    slack = sides * factors - target
    center = target / 2 + rng.uniform(-0.5, 0.5, 2) * slack
    return np.column_stack([linear, center - linear @ (sides / 2)])


def recolor_pair(config: FlowAugment, sample: Sample, rng: np.random.Generator) -> Sample:
    """Changes the colors of both images alike, or of each independently."""
    if rng.random() >= config.asymmetric:
        return recolor(config, sample, rng)
    images: dict[str, np.ndarray] = {}
    for name, image in sample.images.items():
        images |= recolor(config, replace(sample, images={name: image}), rng).images
    return replace(sample, images=images)


def erase(config: FlowAugment, sample: Sample, rng: np.random.Generator) -> Sample:
    """Fills one or two rectangles of the second image with its mean color, as if something occluded it."""
    if rng.random() >= config.erase:
        return sample
    second = sample.images["second"].copy()
    color = second.reshape(-1, second.shape[2]).mean(0)
    height, width = second.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        right, down = rng.integers(config.erase_size[0], config.erase_size[1] + 1, 2)
        second[y : y + down, x : x + right] = color
    return replace(sample, images={**sample.images, "second": second})
