"""Network outputs to pictures, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from densevision.data.degradations import bicubic
from densevision.io.image import to_channels
from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.results import Picture
from densevision.sample import Sample
from densevision.tasks.contract import Tensors

AROUND = 4
"""Pixels around a rectangle of alpha that its enlargement looks at."""


def results(answers: Tensors, views: Sequence[View], scale: int) -> list[Picture]:
    """Pictures of `scale` times the originals' sizes, float32 clipped to [0, 1].

    Args:
        answers: "image" (B, C, H, W), `scale` times the canvas.
        views: How the network saw each picture.
        scale: How many times larger the answers are.
    """
    pictures = []
    for answer, view in zip(answers["image"].float(), views):
        image = to_original(answer[None], view, scale)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        pictures.append(Picture(image=image, scale=scale, size=image.shape[:2]))
    return pictures


def encode(truths: Sequence[Picture]) -> Tensors:
    """The output of a network that answers with the truth, for truths of one size."""
    return {"image": torch.stack([torch.from_numpy(truth.unit().transpose(2, 0, 1).copy()) for truth in truths])}


def in_kind(picture: Picture, sample: Sample, corner: Size) -> Picture:
    """The answer in the number type and the channels of what was asked about: 16 bits, grey, alpha.

    Args:
        picture: Float32 RGB in [0, 1]: the answer, or a rectangle of it.
        sample: The whole picture that was asked about.
        corner: Where the rectangle begins in it, (row, column) in its pixels.
    """
    source = sample.images["image"]
    held, image = source.shape[2], picture.image
    colours = held - 1 if held in (2, 4) else held
    if colours == 1 and image.shape[2] == 3:
        image = to_channels(image, 1)
    if source.dtype.kind == "u":
        image = np.rint(image * np.iinfo(source.dtype).max).astype(source.dtype)
    if held in (2, 4) and image.shape[2] == held - 1:
        image = np.concatenate([image, _alpha(source[..., -1:], picture, corner)], 2)
    return Picture(image=image, scale=picture.scale, size=picture.size, source=picture.source)


def _alpha(alpha: np.ndarray, picture: Picture, corner: Size) -> np.ndarray:
    """The rectangle of alpha that a rectangle of the answer covers, enlarged as if the whole had been."""
    scale = picture.scale
    spans = []
    for start, side, whole in zip(corner, picture.size, alpha.shape[:2]):
        stop = start + side // scale
        first = max(0, start - AROUND)
        spans.append((first, min(whole, stop + AROUND), (start - first) * scale, side))
    (top, bottom, y, height), (left, right, x, width) = spans
    around = alpha[top:bottom, left:right]
    enlarged = bicubic(around, (around.shape[0] * scale, around.shape[1] * scale))
    return enlarged[y : y + height, x : x + width]
