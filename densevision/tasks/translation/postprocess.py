"""Model outputs to images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.nn.model import Tensors
from densevision.ops.fields import resize_to_original
from densevision.ops.view import Size, View
from densevision.results.image import Image
from densevision.sample import Sample

__all__ = ["restore_metadata", "to_results"]


def to_results(predictions: Tensors, views: Sequence[View]) -> list[Image]:
    """Images of the originals' sizes, float32 clipped to [0, 1].

    Args:
        predictions: "image" (B, C, H, W) on the canvas.
        views: How the network saw each image.
    """
    images = []
    for prediction, view in zip(predictions["image"].float(), views):
        pixels = resize_to_original(prediction[None], view)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        images.append(Image(image=pixels, size=pixels.shape[:2]))
    return images


def restore_metadata(result: Image, sample: Sample, corner: Size) -> Image:
    """Converts a result to the number type of the input image, and adds its alpha.

    The color profile is not copied: colors of the result are those of the training targets.

    Args:
        result: Float32 in [0, 1]; the whole result, or a rectangle of it.
        sample: The whole input image.
        corner: Where the rectangle begins, (row, column).
    """
    source, pixels = sample.images["image"], result.image
    if source.dtype.kind == "u":
        pixels = np.rint(pixels * np.iinfo(source.dtype).max).astype(source.dtype)
    if source.shape[2] in (2, 4) and pixels.shape[2] in (1, 3):
        (top, left), (height, width) = corner, result.size
        alpha = source[top : top + height, left : left + width, -1:]
        pixels = np.concatenate([pixels, alpha], 2)
    return Image(image=pixels, size=result.size, source=result.source)
