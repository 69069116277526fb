"""Other looks at the same image: tiles of it, its mirror image, other scales; each with the map back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from densevision.ops.view import Size
from densevision.run_config import PredictOptions
from densevision.sample import Sample

SCALES = (0.75, 1.25)
"""Sides of the scaled looks relative to the image."""


@dataclass(frozen=True)
class Variant:
    """One look.

    Attributes:
        sample: The image as it is looked at.
        back: (2, 3) affine map from the look to the image, in corner coordinates.
        turns: Quarter turns to the left that the image was given, before anything else.
    """

    sample: Sample
    back: np.ndarray
    turns: int = 0


def variants(sample: Sample, options: PredictOptions) -> Iterator[Variant]:
    """Every look that the options ask for; the image itself, or its tiles, always among them."""
    for tile in _tiles(sample, options):
        for turns in range(4) if "rotate" in options.tta else (0,):
            look = _turned(tile, turns)
            yield look
            if "flip" in options.tta:
                yield _flipped(look)
            if "scale" in options.tta:
                yield from (scaled(look, factor) for factor in SCALES)


def grid(length: int, tile: int, overlap: float) -> list[int]:
    """Starts of the tiles along one side: evenly spaced, the last one flush with the end.

    >>> grid(1000, 400, 0.25)
    [0, 300, 600]
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / max(1, tile * (1 - overlap))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def _tiles(sample: Sample, options: PredictOptions) -> Iterator[Variant]:
    if options.tile is None:
        yield Variant(sample, np.eye(2, 3))
        return
    height, width = sample.size
    for y in grid(height, options.tile, options.overlap):
        for x in grid(width, options.tile, options.overlap):
            window = np.s_[y : y + options.tile, x : x + options.tile]
            part = {name: image[window] for name, image in sample.images.items()}
            yield Variant(replace(sample, images=part), np.array([[1.0, 0, x], [0, 1, y]]))


def _flipped(variant: Variant) -> Variant:
    sample = variant.sample
    images = {name: np.ascontiguousarray(image[:, ::-1]) for name, image in sample.images.items()}
    mirror = np.array([[-1.0, 0, sample.size[1]], [0, 1, 0]])
    return Variant(replace(sample, images=images), compose(variant.back, mirror), variant.turns)


def _turned(variant: Variant, turns: int) -> Variant:
    images = {name: np.ascontiguousarray(np.rot90(image, turns)) for name, image in variant.sample.images.items()}
    (height, width), back = variant.sample.size, variant.back
    for number in range(turns):
        before = width if number % 2 == 0 else height
        back = compose(back, np.array([[0.0, -1, before], [1, 0, 0]]))
    return Variant(replace(variant.sample, images=images), back, turns)


def scaled(variant: Variant, factor: float) -> Variant:
    """The same look at another size; each side has at least one pixel."""
    height, width = variant.sample.size
    size = max(1, round(height * factor)), max(1, round(width * factor))
    images = {name: _resized(image, size) for name, image in variant.sample.images.items()}
    shrink = np.array([[width / size[1], 0.0, 0], [0, height / size[0], 0]])
    return Variant(replace(variant.sample, images=images), compose(variant.back, shrink), variant.turns)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The (2, 3) affine map that applies `inner`, then `outer`."""
    return np.concatenate([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]], 1)


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    method = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    resized = cv2.resize(image, size[::-1], interpolation=method)
    return resized if resized.ndim == 3 else resized[..., None]
