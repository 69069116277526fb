"""Model outputs to images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.datasets.degradations import resize_bicubic
from densevision.io.image import convert_channels
from densevision.io.image_metadata import read_image_metadata
from densevision.nn.model import Tensors
from densevision.ops.fields import resize_to_original
from densevision.ops.view import Size, View
from densevision.results.image import Image
from densevision.sample import Sample

__all__ = ["restore_metadata", "to_results"]

ALPHA_MARGIN = 4
"""Pixels around a rectangle of alpha that influence its enlargement."""


def to_results(predictions: Tensors, views: Sequence[View], scale: int) -> list[Image]:
    """Images of `scale` times the originals' sizes, float32 clipped to [0, 1].

    Args:
        predictions: "image" (B, C, H, W), `scale` times the canvas.
        views: How the network saw each image.
        scale: Output pixels per input pixel.
    """
    images = []
    for prediction, view in zip(predictions["image"].float(), views):
        pixels = resize_to_original(prediction[None], view, scale)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        images.append(Image(image=pixels, scale=scale, size=pixels.shape[:2]))
    return images


def restore_metadata(result: Image, sample: Sample, corner: Size) -> Image:
    """Converts a result to the number type and the channels of the input image, and adds its alpha and color profile.

    Args:
        result: Float32 RGB in [0, 1]; the whole result, or a rectangle of it.
        sample: The whole input image.
        corner: Where the rectangle begins in the input image, (row, column).
    """
    source = sample.images["image"]
    channels, pixels = source.shape[2], result.image
    has_alpha = channels in (2, 4)
    if channels - has_alpha == 1 and pixels.shape[2] == 3:
        pixels = convert_channels(pixels, 1)
    if source.dtype.kind == "u":
        pixels = np.rint(pixels * np.iinfo(source.dtype).max).astype(source.dtype)
    if has_alpha and pixels.shape[2] == channels - 1:
        pixels = np.concatenate([pixels, _enlarge_alpha(source[..., -1:], result, corner)], 2)
    metadata = read_image_metadata(sample.file)
    return Image(image=pixels, scale=result.scale, size=result.size, source=result.source, metadata=metadata)


def _enlarge_alpha(alpha: np.ndarray, result: Image, corner: Size) -> np.ndarray:
    """The part of the enlarged alpha that a rectangle of the result covers."""
    scale = result.scale
    spans = []
    for start, side, length in zip(corner, result.size, alpha.shape[:2]):
        stop = start + side // scale
        first = max(0, start - ALPHA_MARGIN)
        spans.append((first, min(length, stop + ALPHA_MARGIN), (start - first) * scale, side))
    (top, bottom, y, height), (left, right, x, width) = spans
    region = alpha[top:bottom, left:right]
    enlarged = resize_bicubic(region, (region.shape[0] * scale, region.shape[1] * scale))
    return enlarged[y : y + height, x : x + width]
