"""Masks as outlines, for formats that hold nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densevision.datasets.conversion.objects import Objects, is_outlined
from densevision.datasets.conversion.report import ConversionReport
from densevision.errors import DataError
from densevision.ops import masks as runs
from densevision.ops.masks import RLE

FINE = 4
"""Parts of a pixel's side in which outlines are found."""


def outlines_of(objects: Objects, image: int, row: int, losses: ConversionReport) -> list[np.ndarray]:
    """The outlines (points, 2) of an object's parts; those of run lengths are drawn around their pixels."""
    if is_outlined(objects, row):
        return objects.masks.outlines(row)
    mask = objects.masks.mask(row, objects.size(image))
    parts = drawn(mask)
    losses.add("masks whose pixels an outline cannot hold, such as holes", int(not is_exact(parts, mask)))
    return parts


def drawn(mask: RLE) -> list[np.ndarray]:
    """Outlines (points, 2) float32 along the edges of a mask's pixels, 3/8 of a pixel inside; holes are lost.

    They neither cut corners nor join what touches by corners alone, so that drawn again they give the same pixels where
    there is no hole.

    Raises:
        DataError: The mask has no pixel.
    """
    pixels, corner = runs.window(mask)
    if not pixels.size:
        raise DataError("a mask without a single pixel has no outline", value=mask["size"])
    fine = np.repeat(np.repeat(pixels.view(np.uint8), FINE, 0), FINE, 1)
    inner = cv2.erode(fine, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    contours, _ = cv2.findContours(inner, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    squared = (_squared(contour.reshape(-1, 2), inner) for contour in contours)
    return [((points + 0.5) / FINE + np.asarray(corner)).astype(np.float32) for points in squared]


def _squared(points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A contour without diagonal steps: each goes by the pixel at its inner corner, where that belongs to the mask."""
    following = np.roll(points, -1, 0)
    corners = np.stack([following[:, 0], points[:, 1]], 1), np.stack([points[:, 0], following[:, 1]], 1)
    diagonal = (following != points).all(1)
    steps = [points]
    inside = [pixels[corner[:, 1], corner[:, 0]] > 0 for corner in corners]
    between = np.where(inside[0][:, None], corners[0], corners[1])
    steps.append(np.where((diagonal & (inside[0] | inside[1]))[:, None], between, points))
    path = np.stack(steps, 1).reshape(-1, 2)
    path = path[(path != np.roll(path, 1, 0)).any(1)] if len(path) > 2 else path
    straight = np.sign(path - np.roll(path, 1, 0)) == np.sign(np.roll(path, -1, 0) - path)
    return path[~straight.all(1)]


def is_exact(parts: Sequence[np.ndarray], mask: RLE) -> bool:
    """Whether outlines, drawn again, give the same pixels."""
    return runs.from_polygons(parts, mask["size"]) == mask


def joined(parts: Sequence[np.ndarray], losses: ConversionReport) -> np.ndarray:
    """One outline (points, 2) of several parts, joined by seams that go there and back."""
    whole = np.asarray(parts[0])
    losses.add("outlines of several parts, joined by seams without width", int(len(parts) > 1))
    for part in parts[1:]:
        distances = ((whole[:, None] - part[None]) ** 2).sum(2)
        ours, theirs = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.roll(part, -int(theirs), 0)
        whole = np.concatenate([whole[: ours + 1], turned, turned[:1], whole[ours:]])
    return whole
