"""Network outputs to images, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.results import Image
from densevision.sample import Sample
from densevision.tasks.base import Tensors


def results(answers: Tensors, views: Sequence[View]) -> list[Image]:
    """Images of the originals' sizes, float32 clipped to [0, 1].

    Args:
        answers: "image" (B, C, H, W) on the canvas.
        views: How the network saw each image.
    """
    images = []
    for answer, view in zip(answers["image"].float(), views):
        image = to_original(answer[None], view)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        images.append(Image(image=image, size=image.shape[:2]))
    return images


def encode(ground_truths: Sequence[Image]) -> Tensors:
    """The output of a network that answers with the truth, for truths of one size."""
    return {"image": torch.stack([torch.from_numpy(truth.unit().transpose(2, 0, 1).copy()) for truth in ground_truths])}


def in_kind(result: Image, sample: Sample, corner: Size) -> Image:
    """The answer in the number type of what was asked about, and with its alpha.

    Args:
        image: Float32 in [0, 1]: the answer, or a rectangle of it.
        sample: The whole image that was asked about.
        corner: Where the rectangle begins in it, (row, column).
    """
    source, pixels = sample.images["image"], result.image
    if source.dtype.kind == "u":
        pixels = np.rint(pixels * np.iinfo(source.dtype).max).astype(source.dtype)
    if source.shape[2] in (2, 4) and pixels.shape[2] in (1, 3):
        (top, left), (height, width) = corner, result.size
        alpha = source[top : top + height, left : left + width, -1:]
        pixels = np.concatenate([pixels, alpha], 2)
    return Image(image=pixels, size=result.size, source=result.source)
