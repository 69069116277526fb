"""Augmentation of training samples: geometry, mosaic, mixup and color.

All randomness comes from the NumPy generator of the caller, so samples do not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from densevision.datasets.geometry import random_affine, warp_sample, white_value
from densevision.datasets.mosaic import mixup, mosaic
from densevision.io.image import to_unit_float
from densevision.ops.view import Size
from densevision.run_config import AugmentConfig, ColorConfig
from densevision.sample import Sample

__all__ = ["SampleSource", "augment_sample", "recolor"]

JPEG_QUALITY_RANGE = (40, 95)
BLUR_SIGMA_RANGE = (0.3, 1.5)
"""Pixels."""
NOISE_SIGMA_RANGE = (0.01, 0.05)
"""Fractions of white."""
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


class SampleSource(Protocol):
    """The part of a dataset that augmentation uses."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def augment_sample(
    config: AugmentConfig,
    samples: SampleSource,
    index: int,
    rng: np.random.Generator,
    canvas: Size,
    fill: float,
    disable_mixing: bool = False,
) -> Sample:
    """Builds a training sample on its canvas: geometry, optionally mosaic and mixup, then colors.

    Args:
        config: Probabilities and ranges.
        samples: The dataset, from which the other images of mosaic and mixup are drawn as well.
        index: The sample.
        rng: The source of randomness.
        canvas: (height, width) of the result.
        fill: Value in [0, 1] outside the image.
        disable_mixing: No mosaic and no mixup, as in the last epochs.
    """

    def compose(index: int) -> Sample:
        if disable_mixing or rng.random() >= config.mosaic:
            sample = samples[index]
            return warp_sample(sample, random_affine(config, rng, sample.size, canvas), canvas, fill)
        others = rng.integers(len(samples), size=3).tolist()
        return mosaic(config, [samples[number] for number in (index, *others)], rng, canvas, fill)

    sample = compose(index)
    if not disable_mixing and rng.random() < config.mixup:
        sample = mixup(sample, compose(int(rng.integers(len(samples)))), rng)
    return recolor(config, sample, rng)


def recolor(config: ColorConfig, sample: Sample, rng: np.random.Generator) -> Sample:
    """Randomly changes color, blur, noise and compression, identically for all images of the sample.

    Hue, saturation and brightness change as in `torchvision.transforms.v2.functional`. All changes apply to RGB. Images
    with another number of channels change in brightness, blur and noise only. JPEG applies to 8-bit images of one or
    three channels. The dtype is kept: other types than uint8 are processed as floats.
    """
    seed = int(rng.integers(2**32))
    images = {name: _recolor_image(config, image, np.random.default_rng(seed)) for name, image in sample.images.items()}
    return replace(sample, images=images)


def _recolor_image(config: ColorConfig, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # All numbers are drawn whatever the config says, so that changing an option leaves the other draws unchanged.
    hue, saturation, value = rng.uniform(-1, 1, 3) * (config.hue, config.saturation, config.value)
    is_gray, is_blurred, is_noisy, is_compressed = rng.random(4) < (config.gray, config.blur, config.noise, config.jpeg)
    blur_sigma, noise_sigma = rng.uniform(*BLUR_SIGMA_RANGE), rng.uniform(*NOISE_SIGMA_RANGE)
    quality = int(rng.integers(*JPEG_QUALITY_RANGE, endpoint=True))

    is_8bit, is_rgb = image.dtype == np.uint8, image.shape[2] == 3
    output = image if is_8bit else to_unit_float(image)
    if is_rgb and hue:
        output = _shift_hue(output, hue)
    if is_rgb and (saturation or value or is_gray):
        output = _mix_channels(output, _saturation_matrix(0.0 if is_gray else 1 + saturation) * (1 + value))
    elif value:
        output = _scale_brightness(output, 1 + value)
    if is_blurred:
        output = cv2.GaussianBlur(output, (0, 0), blur_sigma).reshape(image.shape)
    if is_noisy:
        output = _add_noise(output, noise_sigma, rng)
    if is_compressed and is_8bit and image.shape[2] in (1, 3):
        output = _compress(output, quality)
    if is_8bit or output is image:
        return output
    output = output * np.float32(white_value(image.dtype))
    return (np.rint(output) if image.dtype.kind == "u" else output).astype(image.dtype)


def _shift_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Shifts the hue (HSV) of an RGB image by a fraction of the color circle; uint8 has 256 levels of hue."""
    if image.dtype == np.uint8:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(round(shift * 256) % 256)  # wraps around
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * shift)) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _saturation_matrix(factor: float) -> np.ndarray:
    """Builds the matrix (3, 3) that blends RGB with its luma: 0 gives gray, 1 the same color."""
    return factor * np.eye(3) + (1 - factor) * np.asarray(LUMA_WEIGHTS)


def _scale_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies an image of any number of channels; uint8 is rounded and clipped, floats are clipped."""
    if image.dtype == np.uint8:
        return cv2.convertScaleAbs(image, alpha=factor).reshape(image.shape)
    return (image * np.float32(factor)).clip(0, 1)


def _mix_channels(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a matrix (3, 3) to the colors of an image; uint8 is rounded and clipped, floats are clipped."""
    output = cv2.transform(image, matrix)
    return output if image.dtype == np.uint8 else output.clip(0, 1)


def _add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise with a standard deviation in fractions of white."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    if image.dtype == np.uint8:
        return np.rint(image + noise * np.float32(255)).clip(0, 255).astype(np.uint8)
    return (image + noise).clip(0, 1)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compresses a uint8 image of one or three channels as JPEG, and reads it back."""
    order = slice(None, None, -1)  # OpenCV expects BGR
    encoded = cv2.imencode(".jpg", image[..., order], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded.reshape(image.shape)[..., order])
