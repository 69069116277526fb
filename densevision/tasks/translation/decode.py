"""Network outputs to pictures, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.results import Picture
from densevision.sample import Sample
from densevision.tasks.contract import Tensors


def results(answers: Tensors, views: Sequence[View]) -> list[Picture]:
    """Pictures of the originals' sizes, float32 clipped to [0, 1].

    Args:
        answers: "image" (B, C, H, W) on the canvas.
        views: How the network saw each picture.
    """
    pictures = []
    for answer, view in zip(answers["image"].float(), views):
        image = to_original(answer[None], view)[0].permute(1, 2, 0).clamp(0, 1).contiguous().numpy()
        pictures.append(Picture(image=image, size=image.shape[:2]))
    return pictures


def encode(truths: Sequence[Picture]) -> Tensors:
    """The output of a network that answers with the truth, for truths of one size."""
    return {"image": torch.stack([torch.from_numpy(truth.unit().transpose(2, 0, 1).copy()) for truth in truths])}


def in_kind(picture: Picture, sample: Sample, corner: Size) -> Picture:
    """The answer in the number type of what was asked about, and with its alpha.

    Args:
        picture: Float32 in [0, 1]: the answer, or a rectangle of it.
        sample: The whole picture that was asked about.
        corner: Where the rectangle begins in it, (row, column).
    """
    source, image = sample.images["image"], picture.image
    if source.dtype.kind == "u":
        image = np.rint(image * np.iinfo(source.dtype).max).astype(source.dtype)
    if source.shape[2] in (2, 4) and image.shape[2] in (1, 3):
        (top, left), (height, width) = corner, picture.size
        alpha = source[top : top + height, left : left + width, -1:]
        image = np.concatenate([image, alpha], 2)
    return Picture(image=image, size=picture.size, source=picture.source)
