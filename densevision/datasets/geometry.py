"""Random geometry: one affine map per sample, applied to its images and its ground truth."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from densevision.ops.view import Size, average_blocks, fit_view, to_opencv_matrix, warp_image
from densevision.run_config import GeometryConfig
from densevision.sample import Sample

__all__ = [
    "compose_affine",
    "paint_image",
    "random_affine",
    "random_jitter",
    "warp_antialiased",
    "warp_sample",
    "white_value",
]


def random_affine(config: GeometryConfig, rng: np.random.Generator, original: Size, canvas: Size) -> np.ndarray:
    """Samples a map that letterboxes an image into a canvas, then flips, shears, rotates, scales and translates it.

    Args:
        config: The ranges.
        rng: The source of randomness.
        original: (height, width) of the image.
        canvas: (height, width) of the canvas.

    Returns:
        (2, 3) map from image to canvas, in corner coordinates.
    """
    return compose_affine(random_jitter(config, rng, canvas), fit_view(original, "letterbox", canvas).matrix)


def random_jitter(config: GeometryConfig, rng: np.random.Generator, canvas: Size) -> np.ndarray:
    """Samples a random map (2, 3) of a canvas onto itself, about its center.

    The number of draws does not depend on the config, so that changing an option leaves the other draws unchanged.
    """
    height, width = canvas
    scale = math.exp(rng.uniform(*np.log(config.scale)))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    shear_x, shear_y = np.tan(np.radians(rng.uniform(-config.shear, config.shear, 2)))
    shift = rng.uniform(-config.translate, config.translate, 2) * (width, height)
    mirror = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * rotation @ np.array([[1.0, shear_x], [shear_y, 1.0]]) * mirror
    center = np.array([width / 2, height / 2])
    return np.column_stack([linear, center + shift - linear @ center])


def compose_affine(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Returns the affine map (2, 3) that applies `inner`, then `outer`."""
    return outer @ np.vstack([inner, [0.0, 0.0, 1.0]])


def warp_sample(sample: Sample, matrix: np.ndarray, size: Size, fill: float) -> Sample:
    """Warps all images of a sample and its ground truth by an affine map.

    Args:
        sample: A sample whose images have one size.
        matrix: (2, 3) map from image to canvas, in corner coordinates.
        size: (height, width) of the canvas.
        fill: Value in [0, 1] outside the image.
    """
    images = {name: warp_antialiased(image, matrix, size, fill) for name, image in sample.images.items()}
    truth = None if sample.truth is None else sample.truth.warp(matrix, size)
    return replace(sample, images=images, truth=truth)


def warp_antialiased(image: np.ndarray, matrix: np.ndarray, size: Size, fill: float) -> np.ndarray:
    """Warps an image (H, W, C) of any dtype; it is averaged first if it shrinks to less than half."""
    image, matrix = average_blocks(image, matrix)
    return warp_image(image, matrix, size, cv2.INTER_LINEAR, fill * white_value(image.dtype))


def paint_image(canvas: np.ndarray, image: np.ndarray, matrix: np.ndarray) -> None:
    """Warps an image onto a canvas (h, w, C) of the same dtype in place; uncovered canvas pixels stay."""
    corners = np.array([[0, 0, 1], [image.shape[1], 0, 1], [0, image.shape[0], 1], [image.shape[1], image.shape[0], 1]])
    extent = corners @ matrix.T
    x1, y1 = np.maximum(np.floor(extent.min(0)), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(extent.max(0)), canvas.shape[1::-1]).astype(int)
    if x1 >= x2 or y1 >= y2:
        return
    image, matrix = average_blocks(image, matrix)
    window_matrix = matrix - np.array([[0, 0, x1], [0, 0, y1]])
    window = canvas[y1:y2, x1:x2]
    window = window if canvas.shape[2] > 1 else window[..., 0]
    cv2.warpAffine(
        image,
        to_opencv_matrix(window_matrix),
        (int(x2 - x1), int(y2 - y1)),
        dst=window,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )


def white_value(dtype: np.dtype) -> float:
    """Returns the value of white in an image of a dtype: 255, 65535, or 1 for floats."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
