"""How the config's options spoil an image."""

from __future__ import annotations

import math

import numpy as np

from densevision.datasets import degradations as ways
from densevision.io.image import to_unit_float
from densevision.tasks.superres.config import DegradeConfig, SuperresConfig


def degraded(target: np.ndarray, config: SuperresConfig, rng: np.random.Generator) -> np.ndarray:
    """The input that a target is made into.

    Args:
        target: (H, W, C) uint8, uint16 or float32; its sides are multiples of the scale.
        config: `degrade` and `scale`.
        rng: All the chance.

    Returns:
        (H / scale, W / scale, C) of the same type.
    """
    size = target.shape[0] // config.scale, target.shape[1] // config.scale
    if not config.degrade.random:
        return target if size == target.shape[:2] else ways.bicubic(target, size)
    image = to_unit_float(target)
    if config.degrade.chain == "real-esrgan":
        image = ways.second_order(image, size, rng)
    else:
        image = _simple(image, size, config.degrade, rng)
    if target.dtype.kind != "u":
        return image
    return np.rint(image.clip(0, 1) * np.iinfo(target.dtype).max).astype(target.dtype)


def _simple(image: np.ndarray, size: tuple[int, int], config: DegradeConfig, rng: np.random.Generator) -> np.ndarray:
    """Blur, motion, reduction, noise of both kinds, compression: those that the config names, in this order."""
    if config.blur is not None:
        sigma = rng.uniform(*config.blur)
        side = 2 * math.ceil(3 * sigma) + 1
        image = ways.blurred(image, ways.anisotropic_kernel((sigma, sigma), 0.0, side))
    if config.motion is not None:
        image = ways.blurred(image, ways.motion_kernel(rng.uniform(*config.motion), rng.uniform(0, np.pi)))
    if image.shape[:2] != size:
        image = ways.bicubic(image, size)
    if config.noise is not None:
        image = ways.with_gaussian_noise(image, rng.uniform(*config.noise), rng)
    if config.poisson is not None:
        image = ways.with_poisson_noise(image.clip(0, 1), rng.uniform(*config.poisson), rng)
    if config.jpeg is not None:
        image = ways.compressed(image.clip(0, 1), int(rng.integers(config.jpeg[0], config.jpeg[1] + 1)))
    return image.clip(0, 1)
