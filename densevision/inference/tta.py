"""Views of one image for tiling and test-time augmentation: crops, mirror images, scales, quarter turns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from densevision.ops.view import Size
from densevision.run_config import PredictOptions
from densevision.sample import Sample

__all__ = ["TTAView", "compose_affine", "compute_tile_starts", "make_tta_views", "scale_view"]

SCALES = (0.75, 1.25)
"""Factors of the scaled views."""


@dataclass(frozen=True)
class TTAView:
    """A transformed image with the map back.

    Attributes:
        sample: The transformed image.
        to_image: (2, 3) affine map from the view to the image, in corner coordinates.
        turns: Counterclockwise quarter turns, applied before any other transform.
    """

    sample: Sample
    to_image: np.ndarray
    turns: int = 0


def make_tta_views(sample: Sample, options: PredictOptions) -> Iterator[TTAView]:
    """Yields all views that the options ask for, the image itself or its tiles among them."""
    for tile in _make_tiles(sample, options):
        for turns in range(4) if "rotate" in options.tta else (0,):
            view = _rotate_view(tile, turns)
            yield view
            if "flip" in options.tta:
                yield _flip_view(view)
            if "scale" in options.tta:
                yield from (scale_view(view, factor) for factor in SCALES)


def compute_tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Computes the starts of tiles along one side: evenly spaced, the last tile ends at the end.

    Args:
        length: Length of the side in pixels.
        tile: Side of the tiles in pixels.
        overlap: Minimum fraction of a tile that it shares with its neighbor.

    >>> compute_tile_starts(1000, 400, 0.25)
    [0, 300, 600]
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / max(1, tile * (1 - overlap))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def scale_view(view: TTAView, factor: float) -> TTAView:
    """Resizes a view by a factor; each side keeps at least one pixel."""
    height, width = view.sample.size
    size = max(1, round(height * factor)), max(1, round(width * factor))
    images = {name: _resize_image(image, size) for name, image in view.sample.images.items()}
    inverse = np.array([[width / size[1], 0.0, 0], [0, height / size[0], 0]])
    return TTAView(replace(view.sample, images=images), compose_affine(view.to_image, inverse), view.turns)


def compose_affine(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Composes (2, 3) affine maps: the result applies `inner`, then `outer`."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], 1)


def _make_tiles(sample: Sample, options: PredictOptions) -> Iterator[TTAView]:
    if options.tile is None:
        yield TTAView(sample, np.eye(2, 3))
        return
    height, width = sample.size
    for y in compute_tile_starts(height, options.tile, options.overlap):
        for x in compute_tile_starts(width, options.tile, options.overlap):
            window = np.s_[y : y + options.tile, x : x + options.tile]
            images = {name: image[window] for name, image in sample.images.items()}
            yield TTAView(replace(sample, images=images), np.array([[1.0, 0, x], [0, 1, y]]))


def _flip_view(view: TTAView) -> TTAView:
    sample = view.sample
    images = {name: np.ascontiguousarray(image[:, ::-1]) for name, image in sample.images.items()}
    mirror = np.array([[-1.0, 0, sample.size[1]], [0, 1, 0]])
    return TTAView(replace(sample, images=images), compose_affine(view.to_image, mirror), view.turns)


def _rotate_view(view: TTAView, turns: int) -> TTAView:
    images = {name: np.ascontiguousarray(np.rot90(image, turns)) for name, image in view.sample.images.items()}
    (height, width), to_image = view.sample.size, view.to_image
    for number in range(turns):
        side = width if number % 2 == 0 else height
        to_image = compose_affine(to_image, np.array([[0.0, -1, side], [1, 0, 0]]))
    return TTAView(replace(view.sample, images=images), to_image, turns)


def _resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    interpolation = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    resized = cv2.resize(image, size[::-1], interpolation=interpolation)
    return resized if resized.ndim == 3 else resized[..., None]
