"""Network outputs to images, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from densevision.datasets.degradations import bicubic
from densevision.io.image import to_channels
from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.results import Image
from densevision.sample import Sample
from densevision.tasks.base import Tensors

AROUND = 4
"""Pixels around a rectangle of alpha that its enlargement looks at."""


def results(answers: Tensors, views: Sequence[View], scale: int) -> list[Image]:
    """Images of `scale` times the originals' sizes, float32 clipped to [0, 1].

    Args:
        answers: "image" (B, C, H, W), `scale` times the canvas.
        views: How the network saw each image.
        scale: How many times larger the answers are.
    """
    images = []
    for answer, view in zip(answers["image"].float(), views):
        image = to_original(answer[None], view, scale)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        images.append(Image(image=image, scale=scale, size=image.shape[:2]))
    return images


def encode(ground_truths: Sequence[Image]) -> Tensors:
    """The output of a network that answers with the truth, for truths of one size."""
    return {"image": torch.stack([torch.from_numpy(truth.unit().transpose(2, 0, 1).copy()) for truth in ground_truths])}


def in_kind(result: Image, sample: Sample, corner: Size) -> Image:
    """The answer in the number type and the channels of what was asked about: 16 bits, gray, alpha.

    Args:
        image: Float32 RGB in [0, 1]: the answer, or a rectangle of it.
        sample: The whole image that was asked about.
        corner: Where the rectangle begins in it, (row, column) in its pixels.
    """
    source = sample.images["image"]
    held, pixels = source.shape[2], result.image
    colors = held - 1 if held in (2, 4) else held
    if colors == 1 and pixels.shape[2] == 3:
        pixels = to_channels(pixels, 1)
    if source.dtype.kind == "u":
        pixels = np.rint(pixels * np.iinfo(source.dtype).max).astype(source.dtype)
    if held in (2, 4) and pixels.shape[2] == held - 1:
        pixels = np.concatenate([pixels, _alpha(source[..., -1:], result, corner)], 2)
    return Image(image=pixels, scale=result.scale, size=result.size, source=result.source)


def _alpha(alpha: np.ndarray, image: Image, corner: Size) -> np.ndarray:
    """The rectangle of alpha that a rectangle of the answer covers, enlarged as if the whole had been."""
    scale = image.scale
    spans = []
    for start, side, whole in zip(corner, image.size, alpha.shape[:2]):
        stop = start + side // scale
        first = max(0, start - AROUND)
        spans.append((first, min(whole, stop + AROUND), (start - first) * scale, side))
    (top, bottom, y, height), (left, right, x, width) = spans
    around = alpha[top:bottom, left:right]
    enlarged = bicubic(around, (around.shape[0] * scale, around.shape[1] * scale))
    return enlarged[y : y + height, x : x + width]
