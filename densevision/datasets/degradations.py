"""Image degradations: blur, motion blur, downscaling, noise, compression. Random generators are arguments.

Images are (H, W, C) float32 in [0, 1] with any number of channels, in and out.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import torch

from densevision.io.image import to_unit_float
from densevision.ops.imresize import imresize
from densevision.ops.view import Size, resize_image

__all__ = [
    "add_gaussian_noise",
    "add_poisson_noise",
    "anisotropic_kernel",
    "blur",
    "compress_jpeg",
    "degrade_second_order",
    "motion_kernel",
    "resize_bicubic",
    "sinc_kernel",
]

Range = tuple[float, float]
Profile = Literal["gaussian", "generalized", "plateau"]
MIN_SIDE = 4
"""Minimum side of intermediate images of the second-order model, in pixels."""


def resize_bicubic(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes an image like MATLAB's `imresize` with the bicubic kernel.

    Args:
        image: (H, W, C) uint8, uint16 or float.
        size: (height, width) of the result.

    Returns:
        The same dtype: integers rounded, floats clipped to [0, 1].
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float64))[None]
    resized = imresize(pixels, size)[0].permute(1, 2, 0).numpy()
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    resized = resized.clip(0, white)
    return (np.rint(resized) if image.dtype.kind == "u" else resized).astype(image.dtype)


def anisotropic_kernel(
    sigmas: Range, angle: float, side: int = 21, profile: Profile = "gaussian", shape: float = 1.0
) -> np.ndarray:
    """Builds an anisotropic blur kernel.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021, section 3.1: exp(-q^b / 2) and 1 / (1 + q^b), where q is the squared
    distance in standard deviations.

    Args:
        sigmas: Standard deviations along the rotated x and y axes, in pixels.
        angle: Rotation in radians.
        side: Side of the kernel, odd.
        profile: `gaussian` (b = 1), `generalized` or `plateau`.
        shape: Exponent b of the last two profiles.

    Returns:
        (side, side) float32 with sum 1.
    """
    x, y = _build_grid(side)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    squared = (along / max(sigmas[0], 1e-3)) ** 2 + (across / max(sigmas[1], 1e-3)) ** 2
    power = squared ** (1.0 if profile == "gaussian" else shape)
    kernel = 1 / (1 + power) if profile == "plateau" else np.exp(-power / 2)
    return (kernel / kernel.sum()).astype(np.float32)


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """Builds the kernel of a linear motion blur.

    Args:
        length: Length of the motion in pixels; 0 for none.
        angle: Direction in radians.

    Returns:
        (side, side) float32 with sum 1; side is the smallest odd number that is large enough.
    """
    side = 2 * math.ceil(length / 2) + 3
    x, y = _build_grid(side)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    # Each pixel is weighted by its coverage by a line one pixel thick, with soft edges and ends.
    kernel = (1 - np.abs(across)).clip(0) * (length / 2 + 0.5 - np.abs(along)).clip(0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def sinc_kernel(cutoff: float, side: int = 21) -> np.ndarray:
    """Builds a low-pass (sinc) filter, whose ringing resembles artifacts of sharpening and compression.

    Source: Wang et al., Real-ESRGAN, section 3.3, eq. 6.

    Args:
        cutoff: Cutoff frequency in radians per pixel, up to pi.
        side: Side of the kernel, odd.
    """
    x, y = _build_grid(side)
    radius = np.hypot(x, y)
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        kernel = np.where(radius > 0, cutoff * bessel / (2 * np.pi * radius), cutoff**2 / (4 * np.pi))
    return (kernel / kernel.sum()).astype(np.float32)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves an image with a kernel, with reflection padding."""
    return cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def add_gaussian_noise(image: np.ndarray, sigma: float, rng: np.random.Generator, gray: bool = False) -> np.ndarray:
    """Adds Gaussian noise of a standard deviation and clips; with `gray` it is the same for all channels."""
    shape = (*image.shape[:2], 1) if gray else image.shape
    return (image + rng.standard_normal(shape, np.float32) * np.float32(sigma)).clip(0, 1)


def add_poisson_noise(image: np.ndarray, strength: float, rng: np.random.Generator, gray: bool = False) -> np.ndarray:
    """Adds Poisson (shot) noise and clips: the variance of a value v is strength * v / 255."""
    clean = image.mean(2, keepdims=True) if gray else image
    photons = 255 / max(strength, 1e-6)
    noise = rng.poisson(clean.astype(np.float64) * photons) / photons - clean
    return (image + noise).clip(0, 1).astype(np.float32)


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Applies JPEG compression of a quality from 1 to 100 to images of one or three channels; others are unchanged."""
    if image.shape[2] not in (1, 3):
        return image
    pixels = np.ascontiguousarray(np.rint(image * 255).astype(np.uint8)[..., ::-1])
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return to_unit_float(np.ascontiguousarray(decoded.reshape(image.shape)[..., ::-1]))


def degrade_second_order(image: np.ndarray, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Applies two rounds of blur, resizing, noise and JPEG, and a sinc filter before or after the last JPEG.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021, section 3 and its published training options.

    Args:
        image: (H, W, C) float32 in [0, 1].
        size: (height, width) of the result.
        rng: The source of randomness.
    """
    full_size = image.shape[:2]
    image = blur(image, _random_kernel(rng, (0.2, 3.0)))
    image = _resize_randomly(image, full_size, rng, (0.2, 0.7, 0.1), (0.15, 1.5))
    image = _add_random_noise(image, rng, (1 / 255, 30 / 255), (0.05, 3.0))
    image = compress_jpeg(image, int(rng.integers(30, 96)))
    if rng.random() < 0.8:
        image = blur(image, _random_kernel(rng, (0.2, 1.5)))
    image = _resize_randomly(image, size, rng, (0.3, 0.4, 0.3), (0.3, 1.2))
    image = _add_random_noise(image, rng, (1 / 255, 25 / 255), (0.05, 2.5))
    sinc = sinc_kernel(rng.uniform(np.pi / 3, np.pi)) if rng.random() < 0.8 else None
    quality, filter_last = int(rng.integers(30, 96)), rng.random() < 0.5
    if not filter_last:
        image = _apply_filter(_resize(image, size, rng), sinc)
    image = compress_jpeg(image.clip(0, 1), quality)
    return _apply_filter(_resize(image, size, rng), sinc) if filter_last else image


def _apply_filter(image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    return image if kernel is None else blur(image, kernel).clip(0, 1)


def _random_kernel(rng: np.random.Generator, sigma: Range) -> np.ndarray:
    """Samples a blur kernel of any profile, width and direction, or a sinc filter with probability 0.1."""
    side = 2 * int(rng.integers(3, 11)) + 1
    if rng.random() < 0.1:
        return sinc_kernel(rng.uniform(np.pi / 3 if side < 13 else np.pi / 5, np.pi), side)
    profile: Profile = rng.choice(["gaussian", "generalized", "plateau"], p=[0.7, 0.15, 0.15])
    shape = math.exp(rng.uniform(*np.log({"generalized": (0.5, 4.0), "plateau": (1.0, 2.0)}.get(profile, (1.0, 1.0)))))
    sigma_x = rng.uniform(*sigma)
    sigma_y = sigma_x if rng.random() < 0.55 else rng.uniform(*sigma)
    return anisotropic_kernel((sigma_x, sigma_y), rng.uniform(-np.pi, np.pi), side, profile, shape)


def _resize_randomly(
    image: np.ndarray, base: Size, rng: np.random.Generator, probabilities: tuple[float, float, float], factors: Range
) -> np.ndarray:
    """Enlarges, shrinks or keeps the size, with these probabilities; factors are relative to `base`."""
    direction = rng.choice(3, p=probabilities)
    factor = (rng.uniform(1, factors[1]), rng.uniform(factors[0], 1), 1.0)[direction]
    size = tuple(max(MIN_SIDE, round(side * factor)) for side in base)
    return _resize(image, (size[0], size[1]), rng)


def _resize(image: np.ndarray, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Resizes by a random interpolation."""
    method = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    return resize_image(image, size, method).clip(0, 1)


def _add_random_noise(image: np.ndarray, rng: np.random.Generator, sigma: Range, strength: Range) -> np.ndarray:
    gray = bool(rng.random() < 0.4)
    if rng.random() < 0.5:
        return add_gaussian_noise(image, rng.uniform(*sigma), rng, gray)
    return add_poisson_noise(image, rng.uniform(*strength), rng, gray)


def _build_grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(line, line)
    return x, y
