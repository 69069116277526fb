"""Random geometry as one affine map per sample, applied to its images and to its truth alike."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from densevision.ops.view import Size, fit, pixel_map, resize_image, warp_image
from densevision.run_config import AugmentConfig
from densevision.sample import Sample


def random_affine(config: AugmentConfig, rng: np.random.Generator, original: Size, canvas: Size) -> np.ndarray:
    """A map that fits an image into a canvas, then mirrors, shears, turns, scales and shifts it about the middle.

    Args:
        config: The ranges.
        rng: All the chance.
        original: Size of the image, (height, width).
        canvas: Size of the canvas, (height, width).

    Returns:
        (2, 3) map from image to canvas, in corner coordinates.
    """
    return composed(random_jitter(config, rng, canvas), fit(original, "letterbox", canvas).matrix)


def random_jitter(config: AugmentConfig, rng: np.random.Generator, canvas: Size) -> np.ndarray:
    """A random map (2, 3) of a canvas onto itself.

    As many numbers are drawn whatever the config says, so that an option changes nothing but itself.
    """
    height, width = canvas
    scale = math.exp(rng.uniform(*np.log(config.scale)))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    shear_x, shear_y = np.tan(np.radians(rng.uniform(-config.shear, config.shear, 2)))
    shift = rng.uniform(-config.translate, config.translate, 2) * (width, height)
    mirror = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * turn @ np.array([[1.0, shear_x], [shear_y, 1.0]]) * mirror
    middle = np.array([width / 2, height / 2])
    return np.column_stack([linear, middle + shift - linear @ middle])


def composed(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) that applies `inner`, then `outer`."""
    return outer @ np.vstack([inner, [0.0, 0.0, 1.0]])


def warp_sample(sample: Sample, matrix: np.ndarray, size: Size, fill: float) -> Sample:
    """The sample as seen through an affine map: all its images, and its truth, whatever record that is.

    Args:
        sample: Its images are of one size.
        matrix: (2, 3) map from image to canvas, in corner coordinates.
        size: Canvas (height, width).
        fill: Value in [0, 1] outside the image.
    """
    images = {name: warp_antialiased(image, matrix, size, fill) for name, image in sample.images.items()}
    truth = None if sample.truth is None else sample.truth.warp(matrix, size)
    return replace(sample, images=images, truth=truth)


def warp_antialiased(image: np.ndarray, matrix: np.ndarray, size: Size, fill: float) -> np.ndarray:
    """An image (H, W, C) of any type through an affine map; what shrinks to less than half is averaged first."""
    image, matrix = _halved(image, matrix)
    return warp_image(image, matrix, size, cv2.INTER_LINEAR, fill * white(image.dtype))


def paint_image(canvas: np.ndarray, image: np.ndarray, matrix: np.ndarray) -> None:
    """Warps an image onto a canvas (h, w, C) of the same type that holds others already, where it covers it."""
    corners = np.array([[0, 0, 1], [image.shape[1], 0, 1], [0, image.shape[0], 1], [image.shape[1], image.shape[0], 1]])
    receptive_field_radius = corners @ matrix.T
    x1, y1 = np.maximum(np.floor(receptive_field_radius.min(0)), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(receptive_field_radius.max(0)), canvas.shape[1::-1]).astype(int)
    if x1 >= x2 or y1 >= y2:
        return
    image, matrix = _halved(image, matrix)
    moved = matrix - np.array([[0, 0, x1], [0, 0, y1]])
    part = canvas[y1:y2, x1:x2]
    part = part if canvas.shape[2] > 1 else part[..., 0]
    cv2.warpAffine(
        image,
        pixel_map(moved),
        (int(x2 - x1), int(y2 - y1)),
        dst=part,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )


def white(kind: np.dtype) -> float:
    """The value of white in an image of a type: 255, 65535, or 1 for floats."""
    return float(np.iinfo(kind).max) if kind.kind == "u" else 1.0


def _halved(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages over blocks of whole pixels, as far as the map shrinks anyway: interpolating alone would alias."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    height, width = image.shape[:2]
    factor = min(int(1 / max(scale, 1e-6) + 1e-6), height, width)
    if factor < 2:
        return image, matrix
    smaller = max(1, height // factor), max(1, width // factor)
    image = image[: smaller[0] * factor, : smaller[1] * factor]
    return resize_image(image, smaller, cv2.INTER_AREA), matrix @ np.diag([factor, factor, 1.0])
