"""Several samples in one: four around a point, or two blended. Each image is warped once, onto the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from densevision.datasets.geometry import composed, paint_image, random_jitter, white
from densevision.io.image import to_unit_float
from densevision.ops.view import Size
from densevision.results import Result
from densevision.run_config import AugmentConfig
from densevision.sample import Sample


def mosaic(
    config: AugmentConfig, samples: Sequence[Sample], rng: np.random.Generator, canvas: Size, fill: float
) -> Sample:
    """Four samples around a random point of the canvas, then one jitter for all.

    Source: Bochkovskiy et al., YOLOv4, 2020, section 3.3; here without cutting, as what overhangs is not drawn.

    Args:
        config: The ranges of the jitter.
        samples: Four, with one image each and records that can be joined; the first lends its identity.
        rng: All the chance.
        canvas: Size of the result, (height, width).
        fill: Value in [0, 1] where no image is.
    """
    height, width = canvas
    point = rng.random(2) * (width, height)
    jitter = random_jitter(config, rng, canvas)
    name = next(iter(samples[0].images))
    images = alike([sample.images[name] for sample in samples])
    kind = images[0].dtype
    canvas_image = np.full((height, width, images[0].shape[2]), fill * white(kind), kind)
    ground_truths = []
    for place, sample, tile in zip(((1, 1), (0, 1), (1, 0), (0, 0)), samples, images):
        matrix = composed(jitter, _placed(tile.shape[:2], canvas, point, np.array(place)))
        paint_image(canvas_image, tile, matrix)
        ground_truths.append(None if sample.truth is None else sample.truth.warp(matrix, canvas))
    return replace(samples[0], images={name: canvas_image}, truth=joined(ground_truths))


def mixup(first: Sample, second: Sample, rng: np.random.Generator) -> Sample:
    """Two samples on canvases of one size, blended about half and half, with the objects of both.

    Source: Zhang et al., mixup, ICLR 2018; for detection, Zhang et al., Bag of Freebies, 2019: Beta(32, 32), all boxes.
    """
    part = float(rng.beta(32, 32))
    images = {}
    for name in first.images:
        one, other = alike([first.images[name], second.images[name]])
        blend = one * np.float32(part) + other * np.float32(1 - part)
        images[name] = (np.rint(blend) if one.dtype.kind == "u" else blend).astype(one.dtype)
    return replace(first, images=images, truth=joined([first.truth, second.truth]))


def joined(ground_truths: Sequence[Result | None]) -> Result | None:
    """One record of all objects; None as soon as one image's truth is not known."""
    known = [truth for truth in ground_truths if truth is not None]
    return type(known[0]).joined(known) if len(known) == len(ground_truths) else None  # type: ignore[attr-defined]


def alike(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The images themselves where they are of one type, else as floats in [0, 1]."""
    if len({image.dtype for image in images}) == 1:
        return list(images)
    return [to_unit_float(image) for image in images]


def _placed(original: Size, canvas: Size, point: np.ndarray, touching: np.ndarray) -> np.ndarray:
    """Scales an image to fit the canvas and moves it until one of its corners is at the point.

    Args:
        original: Size of the image, (height, width).
        canvas: (height, width).
        point: x, y on the canvas.
        touching: Which corner, x and y: 0 the left or top side, 1 the right or bottom.
    """
    ratio = min(canvas[0] / original[0], canvas[1] / original[1])
    corner = touching * ratio * np.array(original[::-1])
    return np.array([[ratio, 0.0, point[0] - corner[0]], [0.0, ratio, point[1] - corner[1]]])
