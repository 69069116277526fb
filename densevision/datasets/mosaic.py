"""Mosaic and mixup: several samples in one image. Each image is warped once, onto the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from densevision.datasets.geometry import compose_affine, paint_image, random_jitter, white_value
from densevision.io.image import to_unit_float
from densevision.ops.view import Size
from densevision.results import Result
from densevision.run_config import AugmentConfig
from densevision.sample import Sample

__all__ = ["join_records", "match_dtypes", "mixup", "mosaic"]


def mosaic(
    config: AugmentConfig, samples: Sequence[Sample], rng: np.random.Generator, canvas: Size, fill: float
) -> Sample:
    """Arranges four samples around a random point of the canvas and jitters them together.

    Source: Bochkovskiy et al., YOLOv4, 2020, section 3.3; the images are not cropped beforehand.

    Args:
        config: The ranges of the jitter.
        samples: Four samples with one image each and records that can be joined; the first one gives the identity.
        rng: The source of randomness.
        canvas: (height, width) of the result.
        fill: Value in [0, 1] of uncovered pixels.
    """
    height, width = canvas
    point = rng.random(2) * (width, height)
    jitter = random_jitter(config, rng, canvas)
    name = next(iter(samples[0].images))
    images = match_dtypes([sample.images[name] for sample in samples])
    dtype = images[0].dtype
    canvas_image = np.full((height, width, images[0].shape[2]), fill * white_value(dtype), dtype)
    target_records = []
    for corner, sample, image in zip(((1, 1), (0, 1), (1, 0), (0, 0)), samples, images):
        matrix = compose_affine(jitter, _place_corner(image.shape[:2], canvas, point, np.array(corner)))
        paint_image(canvas_image, image, matrix)
        target_records.append(None if sample.truth is None else sample.truth.warp(matrix, canvas))
    return replace(samples[0], images={name: canvas_image}, truth=join_records(target_records))


def mixup(first: Sample, second: Sample, rng: np.random.Generator) -> Sample:
    """Blends two samples on canvases of the same size, with the objects of both.

    Source: Zhang et al., mixup, ICLR 2018; for detection, Zhang et al., Bag of Freebies, 2019: Beta(32, 32), all boxes.
    """
    weight = float(rng.beta(32, 32))
    images = {}
    for name in first.images:
        first_image, second_image = match_dtypes([first.images[name], second.images[name]])
        blend = first_image * np.float32(weight) + second_image * np.float32(1 - weight)
        dtype = first_image.dtype
        images[name] = (np.rint(blend) if dtype.kind == "u" else blend).astype(dtype)
    return replace(first, images=images, truth=join_records([first.truth, second.truth]))


def join_records(target_records: Sequence[Result | None]) -> Result | None:
    """Joins records into one with all objects; None if any of them is None."""
    records = [truth for truth in target_records if truth is not None]
    return type(records[0]).concatenate(records) if len(records) == len(target_records) else None  # type: ignore[attr-defined]


def match_dtypes(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the images unchanged if they have one dtype, otherwise as floats in [0, 1]."""
    if len({image.dtype for image in images}) == 1:
        return list(images)
    return [to_unit_float(image) for image in images]


def _place_corner(original: Size, canvas: Size, point: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Builds the map that fits an image into the canvas and moves one of its corners to a point.

    Args:
        original: (height, width) of the image.
        canvas: (height, width).
        point: xy on the canvas.
        corner: x and y of the corner: 0 the left or top side, 1 the right or bottom side.
    """
    ratio = min(canvas[0] / original[0], canvas[1] / original[1])
    offset = point - corner * ratio * np.array(original[::-1])
    return np.array([[ratio, 0.0, offset[0]], [0.0, ratio, offset[1]]])
