"""Masks as polygons, for formats that represent nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densevision.datasets.conversion.objects import ObjectSplit, is_polygon
from densevision.datasets.conversion.report import ConversionReport
from densevision.errors import DataError
from densevision.ops import masks as runs
from densevision.ops.masks import RLE

__all__ = ["get_polygons", "is_exact", "join_polygons", "trace_polygons"]

UPSCALING = 4
"""Steps per pixel in which contours are traced."""


def get_polygons(objects: ObjectSplit, image: int, row: int, report: ConversionReport) -> list[np.ndarray]:
    """Returns the polygons (points, 2) of an object; run lengths are traced."""
    assert objects.masks is not None
    if is_polygon(objects, row):
        return objects.masks.polygons(row)
    mask = objects.masks.mask(row, objects.size(image))
    parts = trace_polygons(mask)
    report.add("masks that polygons cannot represent exactly, such as holes", int(not is_exact(parts, mask)))
    return parts


def trace_polygons(mask: RLE) -> list[np.ndarray]:
    """Traces polygons (points, 2) float32 along the edges of a mask, 3/8 of a pixel inside; holes are lost.

    The polygons neither cut corners nor join pixels that touch only at corners, so that rasterizing them gives the same
    mask if it has no holes.

    Raises:
        DataError: The mask has no pixel.
    """
    pixels, corner = runs.crop_to_box(mask)
    if not pixels.size:
        raise DataError("a mask without any pixel has no polygon", value=mask["size"])
    upscaled = np.repeat(np.repeat(pixels.view(np.uint8), UPSCALING, 0), UPSCALING, 1)
    inner = cv2.erode(upscaled, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    contours, _ = cv2.findContours(inner, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    paths = (_remove_diagonals(contour.reshape(-1, 2), inner) for contour in contours)
    return [((points + 0.5) / UPSCALING + np.asarray(corner)).astype(np.float32) for points in paths]


def _remove_diagonals(points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Replaces diagonal steps of a contour by a detour over the adjacent corner pixel that belongs to the mask."""
    successors = np.roll(points, -1, 0)
    corners = np.stack([successors[:, 0], points[:, 1]], 1), np.stack([points[:, 0], successors[:, 1]], 1)
    is_diagonal = (successors != points).all(1)
    steps = [points]
    inside = [pixels[corner[:, 1], corner[:, 0]] > 0 for corner in corners]
    between = np.where(inside[0][:, None], corners[0], corners[1])
    steps.append(np.where((is_diagonal & (inside[0] | inside[1]))[:, None], between, points))
    path = np.stack(steps, 1).reshape(-1, 2)
    path = path[(path != np.roll(path, 1, 0)).any(1)] if len(path) > 2 else path
    is_straight = np.sign(path - np.roll(path, 1, 0)) == np.sign(np.roll(path, -1, 0) - path)
    return path[~is_straight.all(1)]


def is_exact(parts: Sequence[np.ndarray], mask: RLE) -> bool:
    """Whether rasterized polygons equal the mask."""
    return runs.encode_polygons(parts, mask["size"]) == mask


def join_polygons(parts: Sequence[np.ndarray], report: ConversionReport) -> np.ndarray:
    """Joins several polygons into one (points, 2) by connections of zero width between their nearest points."""
    polygon = np.asarray(parts[0])
    report.add("multi-part polygons, joined into one", int(len(parts) > 1))
    for part in parts[1:]:
        distances = ((polygon[:, None] - part[None]) ** 2).sum(2)
        index, part_index = np.unravel_index(distances.argmin(), distances.shape)
        rotated = np.roll(part, -int(part_index), 0)
        polygon = np.concatenate([polygon[: index + 1], rotated, rotated[:1], polygon[index:]])
    return polygon
