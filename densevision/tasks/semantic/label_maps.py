"""Probabilities of classes to label maps, one class after the other: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from densevision.ops.fields import resize_to_original
from densevision.ops.view import View

__all__ = ["find_classes", "find_most_probable", "resize_planes"]


def resize_planes(canvas: Tensor, view: View) -> Iterator[np.ndarray]:
    """The probabilities of each class on the pixels of the image, (H, W) float32, one at a time.

    Args:
        canvas: (C, h, w) float32 on the canvas.
        view: The view through which the network saw the image.
    """
    for plane in canvas:
        yield resize_to_original(plane[None, None], view)[0, 0].numpy()


def find_most_probable(canvas: Tensor, view: View) -> np.ndarray:
    """The most probable class of each pixel of the image, of several the first: (H, W) uint8."""
    labels = np.zeros(view.original, np.uint8)
    largest = np.full(view.original, -np.inf, np.float32)
    for index, plane in enumerate(resize_planes(canvas, view)):
        np.copyto(labels, np.uint8(index), where=plane > largest)
        np.maximum(largest, plane, out=largest)
    return labels


def find_classes(canvas: Tensor, view: View, threshold: float) -> np.ndarray:
    """The set of classes of each pixel whose probability is above a threshold: (H, W) uint16, bit i for class i."""
    labels = np.zeros(view.original, np.uint16)
    for index, plane in enumerate(resize_planes(canvas, view)):
        labels |= (plane > threshold).astype(np.uint16) << np.uint16(index)
    return labels
