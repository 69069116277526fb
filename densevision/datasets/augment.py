"""Color augmentation, and the way of a training sample through geometry, mosaic and color.

The only file that knows albumentations. It draws from its own generators, so each call seeds them from ours.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from densevision.datasets.geometry import random_affine, warp_sample, white
from densevision.datasets.mosaic import mixup, mosaic
from densevision.io.image import to_unit_float
from densevision.ops.view import Size
from densevision.run_config import AugmentConfig, ColorConfig
from densevision.sample import Sample

QUALITIES = (40, 95)
"""JPEG qualities."""
SIGMAS = (0.3, 1.5)
"""Standard deviations of the blur, in pixels."""
NOISES = (0.01, 0.05)
"""Standard deviations of the noise, as parts of white."""


class Samples(Protocol):
    """A dataset, as far as augmentation needs it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def augmented(
    config: AugmentConfig,
    samples: Samples,
    index: int,
    rng: np.random.Generator,
    canvas: Size,
    fill: float,
    plain: bool = False,
) -> Sample:
    """A training sample on its canvas: geometry, perhaps mosaic and mixup, then colors.

    Args:
        config: What chance may do.
        samples: The dataset, from which partners are drawn too.
        index: The sample.
        rng: All the chance.
        canvas: Size of the result, (height, width).
        fill: Value in [0, 1] outside the image.
        plain: No mosaic and no mixup, as in the last epochs.
    """

    def composed(index: int) -> Sample:
        if plain or rng.random() >= config.mosaic:
            sample = samples[index]
            return warp_sample(sample, random_affine(config, rng, sample.size, canvas), canvas, fill)
        partners = rng.integers(len(samples), size=3).tolist()
        return mosaic(config, [samples[number] for number in (index, *partners)], rng, canvas, fill)

    sample = composed(index)
    if not plain and rng.random() < config.mixup:
        sample = mixup(sample, composed(int(rng.integers(len(samples)))), rng)
    return recolor(config, sample, rng)


def recolor(config: ColorConfig, sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with other colors, blur, noise and compression; the same change for all its images.

    RGB knows every change. Images of other numbers of channels keep their hues and change in brightness, blur and
    noise. JPEG is for 8 bits in one or three channels. Types stay: 16 bits are changed as floats and come back.
    """
    seed = int(rng.integers(2**32))
    images = {name: _recolored(config, image, seed) for name, image in sample.images.items()}
    return replace(sample, images=images)


def _recolored(config: ColorConfig, image: np.ndarray, seed: int) -> np.ndarray:
    pipeline = _pipeline(config, image.shape[2], image.dtype == np.uint8)
    if pipeline is None:
        return image
    # One state for all steps: `set_random_seed` would give each the same numbers, and tie their chances together.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    if image.dtype == np.uint8:
        return pipeline(image=image)["image"].reshape(image.shape)
    changed = pipeline(image=to_unit_float(image))["image"].reshape(image.shape) * np.float32(white(image.dtype))
    return (np.rint(changed) if image.dtype.kind == "u" else changed).astype(image.dtype)


@lru_cache(maxsize=16)
def _pipeline(config: ColorConfig, channels: int, eight_bits: bool) -> Any | None:
    """The changes that make sense for a kind of image, or None where there are none."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A

    brightness = (1 - config.value, 1 + config.value)
    steps: list[Any] = []
    if channels == 3 and (config.hue or config.saturation or config.value):
        saturation, hue = (1 - config.saturation, 1 + config.saturation), (-config.hue, config.hue)
        steps.append(A.ColorJitter(brightness=brightness, contrast=(1, 1), saturation=saturation, hue=hue, p=1))
    elif config.value:
        steps.append(A.MultiplicativeNoise(multiplier=brightness, per_channel=False, elementwise=False, p=1))
    if channels == 3 and config.gray:
        steps.append(A.ToGray(p=config.gray))
    if config.blur:
        steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=SIGMAS, p=config.blur))
    if config.noise:
        steps.append(A.GaussNoise(std_range=NOISES, p=config.noise))
    if config.jpeg and eight_bits and channels in (1, 3):
        steps.append(A.ImageCompression(quality_range=QUALITIES, p=config.jpeg))
    return A.Compose(steps) if steps else None
