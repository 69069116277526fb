"""What happens to images on their way to us: blur, motion, reduction, noise, compression. All chance is given.

Images are (H, W, C) float32 in [0, 1], RGB or of any channels, in and out.
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

Range = tuple[float, float]
Profile = Literal["gaussian", "generalised", "plateau"]
LEAST_SIDE = 4
"""No intermediate image of the second-order chain gets smaller than this, in pixels."""


def bicubic(image: np.ndarray, size: Size) -> np.ndarray:
    """The image resized as MATLAB's `imresize` does it.

    Args:
        image: (H, W, C) uint8, uint16 or float.
        size: (height, width) of the result.

    Returns:
        The same type: integers rounded, floats clipped to [0, 1].
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float64))[None]
    resized = imresize(pixels, size)[0].permute(1, 2, 0).numpy()
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0
    resized = resized.clip(0, white)
    return (np.rint(resized) if image.dtype.kind == "u" else resized).astype(image.dtype)


def anisotropic_kernel(
    sigmas: Range, angle: float, side: int = 21, profile: Profile = "gaussian", shape: float = 1.0
) -> np.ndarray:
    """A bell that is wider along one axis than along the other.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021, section 3.1: exp(-q^b / 2) and 1 / (1 + q^b), where q is the squared
    distance in standard deviations.

    Args:
        sigmas: Standard deviations along the turned x and y axes, in pixels.
        angle: Of the turn, in radians.
        side: Of the kernel, odd.
        profile: `gaussian` (b = 1), `generalised` or `plateau`.
        shape: b, of the last two.

    Returns:
        (side, side) float32, of sum 1.
    """
    x, y = _grid(side)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    squared = (along / max(sigmas[0], 1e-3)) ** 2 + (across / max(sigmas[1], 1e-3)) ** 2
    power = squared ** (1.0 if profile == "gaussian" else shape)
    kernel = 1 / (1 + power) if profile == "plateau" else np.exp(-power / 2)
    return (kernel / kernel.sum()).astype(np.float32)


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """What a straight motion of the camera smears a point into.

    Args:
        length: Of the path, in pixels; 0 smears nothing.
        angle: Of its direction, in radians.

    Returns:
        (side, side) float32 of sum 1, side odd and just large enough.
    """
    side = 2 * math.ceil(length / 2) + 3
    x, y = _grid(side)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    # Each pixel weighs what a line one pixel thick covers of it, softened at the rim and the ends.
    kernel = (1 - np.abs(across)).clip(0) * (length / 2 + 0.5 - np.abs(along)).clip(0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def sinc_kernel(cutoff: float, side: int = 21) -> np.ndarray:
    """The filter that cuts off all frequencies above a limit, and rings: what sharpening and compression leave behind.

    Source: Wang et al., Real-ESRGAN, section 3.3, eq. 6.

    Args:
        cutoff: Limit in radians per pixel, up to pi.
        side: Of the kernel, odd.
    """
    x, y = _grid(side)
    radius = np.hypot(x, y)
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        kernel = np.where(radius > 0, cutoff * bessel / (2 * np.pi * radius), cutoff**2 / (4 * np.pi))
    return (kernel / kernel.sum()).astype(np.float32)


def blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The image convolved with a kernel, continued by its mirror image."""
    return cv2.filter2D(image, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def with_gaussian_noise(image: np.ndarray, sigma: float, rng: np.random.Generator, gray: bool = False) -> np.ndarray:
    """The image plus noise of a standard deviation, the same for all channels where `gray`; clipped."""
    shape = (*image.shape[:2], 1) if gray else image.shape
    return (image + rng.standard_normal(shape, np.float32) * np.float32(sigma)).clip(0, 1)


def with_poisson_noise(image: np.ndarray, strength: float, rng: np.random.Generator, gray: bool = False) -> np.ndarray:
    """The image as counted photons would show it: the variance of a value v is strength * v / 255; clipped."""
    clean = image.mean(2, keepdims=True) if gray else image
    photons = 255 / max(strength, 1e-6)
    noise = rng.poisson(clean.astype(np.float64) * photons) / photons - clean
    return (image + noise).clip(0, 1).astype(np.float32)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG at a quality from 1 to 100; images of other than one or three channels come back."""
    if image.shape[2] not in (1, 3):
        return image
    pixels = np.ascontiguousarray(np.rint(image * 255).astype(np.uint8)[..., ::-1])
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    return to_unit_float(np.ascontiguousarray(decoded.reshape(image.shape)[..., ::-1]))


def second_order(image: np.ndarray, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Two rounds of blur, resizing, noise and JPEG, and at last a ringing filter before or after the last JPEG.

    Source: Wang et al., Real-ESRGAN, ICCVW 2021, section 3 and its published training options.

    Args:
        image: (H, W, C) float32 in [0, 1].
        size: (height, width) of the result.
        rng: All the chance.
    """
    full = image.shape[:2]
    image = blurred(image, _random_kernel(rng, (0.2, 3.0)))
    image = _resized_at_random(image, full, rng, (0.2, 0.7, 0.1), (0.15, 1.5))
    image = _noisy(image, rng, (1 / 255, 30 / 255), (0.05, 3.0))
    image = compressed(image, int(rng.integers(30, 96)))
    if rng.random() < 0.8:
        image = blurred(image, _random_kernel(rng, (0.2, 1.5)))
    image = _resized_at_random(image, size, rng, (0.3, 0.4, 0.3), (0.3, 1.2))
    image = _noisy(image, rng, (1 / 255, 25 / 255), (0.05, 2.5))
    ringing = sinc_kernel(rng.uniform(np.pi / 3, np.pi)) if rng.random() < 0.8 else None
    quality, ring_last = int(rng.integers(30, 96)), rng.random() < 0.5
    if not ring_last:
        image = _rung(_resize(image, size, rng), ringing)
    image = compressed(image.clip(0, 1), quality)
    return _rung(_resize(image, size, rng), ringing) if ring_last else image


def _rung(image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    return image if kernel is None else blurred(image, kernel).clip(0, 1)


def _random_kernel(rng: np.random.Generator, sigma: Range) -> np.ndarray:
    """A bell of any family, width and direction, or in a tenth of the draws a ringing filter."""
    side = 2 * int(rng.integers(3, 11)) + 1
    if rng.random() < 0.1:
        return sinc_kernel(rng.uniform(np.pi / 3 if side < 13 else np.pi / 5, np.pi), side)
    profile: Profile = rng.choice(["gaussian", "generalised", "plateau"], p=[0.7, 0.15, 0.15])
    shape = math.exp(rng.uniform(*np.log({"generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}.get(profile, (1.0, 1.0)))))
    wide = rng.uniform(*sigma)
    narrow = wide if rng.random() < 0.55 else rng.uniform(*sigma)
    return anisotropic_kernel((wide, narrow), rng.uniform(-np.pi, np.pi), side, profile, shape)


def _resized_at_random(
    image: np.ndarray, base: Size, rng: np.random.Generator, odds: tuple[float, float, float], factors: Range
) -> np.ndarray:
    """Made larger, smaller or left, with these odds, by a factor within the range about 1; measured against `base`."""
    direction = rng.choice(3, p=odds)
    factor = (rng.uniform(1, factors[1]), rng.uniform(factors[0], 1), 1.0)[direction]
    size = tuple(max(LEAST_SIDE, round(side * factor)) for side in base)
    return _resize(image, (size[0], size[1]), rng)


def _resize(image: np.ndarray, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Resized by an interpolation that chance picks."""
    method = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    return resize_image(image, size, method).clip(0, 1)


def _noisy(image: np.ndarray, rng: np.random.Generator, sigma: Range, strength: Range) -> np.ndarray:
    gray = bool(rng.random() < 0.4)
    if rng.random() < 0.5:
        return with_gaussian_noise(image, rng.uniform(*sigma), rng, gray)
    return with_poisson_noise(image, rng.uniform(*strength), rng, gray)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(side) - (side - 1) / 2
    x, y = np.meshgrid(line, line)
    return x, y
