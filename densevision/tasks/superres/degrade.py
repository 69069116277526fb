"""Degrades an image as the config's `degrade` options say."""

from __future__ import annotations

import math

import numpy as np

from densevision.datasets import degradations
from densevision.io.image import to_unit_float
from densevision.tasks.superres.config import DegradeConfig, SuperresConfig

__all__ = ["degrade"]


def degrade(target: np.ndarray, config: SuperresConfig, rng: np.random.Generator) -> np.ndarray:
    """Makes the input for a target.

    Args:
        target: (H, W, C) uint8, uint16 or float32; its sides are multiples of the scale.
        config: `degrade` and `scale`.
        rng: The source of randomness.

    Returns:
        (H / scale, W / scale, C) of the same type.
    """
    size = target.shape[0] // config.scale, target.shape[1] // config.scale
    if not config.degrade.is_random:
        return target if size == target.shape[:2] else degradations.resize_bicubic(target, size)
    image = to_unit_float(target)
    if config.degrade.chain == "real-esrgan":
        image = degradations.degrade_second_order(image, size, rng)
    else:
        image = _degrade_simple(image, size, config.degrade, rng)
    if target.dtype.kind != "u":
        return image
    return np.rint(image.clip(0, 1) * np.iinfo(target.dtype).max).astype(target.dtype)


def _degrade_simple(
    image: np.ndarray, size: tuple[int, int], config: DegradeConfig, rng: np.random.Generator
) -> np.ndarray:
    """Applies blur, motion blur, downscaling, both kinds of noise and compression, in this order."""
    if config.blur is not None:
        sigma = rng.uniform(*config.blur)
        side = 2 * math.ceil(3 * sigma) + 1
        image = degradations.blur(image, degradations.anisotropic_kernel((sigma, sigma), 0.0, side))
    if config.motion is not None:
        kernel = degradations.motion_kernel(rng.uniform(*config.motion), rng.uniform(0, np.pi))
        image = degradations.blur(image, kernel)
    if image.shape[:2] != size:
        image = degradations.resize_bicubic(image, size)
    if config.noise is not None:
        image = degradations.add_gaussian_noise(image, rng.uniform(*config.noise), rng)
    if config.poisson is not None:
        image = degradations.add_poisson_noise(image.clip(0, 1), rng.uniform(*config.poisson), rng)
    if config.jpeg is not None:
        quality = int(rng.integers(config.jpeg[0], config.jpeg[1] + 1))
        image = degradations.compress_jpeg(image.clip(0, 1), quality)
    return image.clip(0, 1)
