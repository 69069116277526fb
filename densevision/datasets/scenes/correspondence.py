"""Correspondence between two views of a scene."""

from __future__ import annotations

import cv2
import numpy as np

from densevision.datasets.scenes.render import Frame
from densevision.datasets.scenes.world import World

__all__ = ["compute_displacement"]


def compute_displacement(
    world: World, source: int, frame: Frame, target: int, target_frame: Frame
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the displacement of every pixel's surface point, and whether it is occluded.

    Args:
        world: The scene.
        source: The source view.
        frame: Its rendered frame.
        target: The target view.
        target_frame: Its rendered frame.

    Returns:
        (2, H, W) float32, x and y in pixels; and (H, W) bool, True if the point is outside the target image, or behind
        another surface there.
    """
    height, width = frame.index.shape
    from_target = np.linalg.inv(world.projections(target))
    to_target = world.projections(target) @ np.linalg.inv(world.projections(source))
    x, y = np.arange(width, dtype=np.float32) + 0.5, (np.arange(height, dtype=np.float32) + 0.5)[:, None]

    def map_row(row: int) -> np.ndarray:
        return _affine(to_target[:, row], frame.index, x, y)

    depth_ratio = map_row(2)
    to_x, to_y = map_row(0), map_row(1)
    to_x /= depth_ratio
    to_y /= depth_ratio
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    column, row = (np.clip(to, 0, side - 1).astype(np.int32) for to, side in ((to_x, width), (to_y, height)))
    # The surface at the nearest pixel is evaluated at the exact position: on a slope half a pixel matters.
    surface = target_frame.index.ravel()[row * width + column]
    in_front = _affine(from_target[:, 2], surface, to_x, to_y) > frame.inverse / depth_ratio * np.float32(1 + 1e-4)
    return np.stack([to_x - x, to_y - y]), ~inside | (in_front & (surface != frame.index))


def _affine(rows: np.ndarray, index: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Computes rows[index] . (x, y, 1), float32."""
    tables = np.zeros((3, 256), np.float32)
    tables[:, : len(rows)] = rows.T
    terms: list[np.ndarray] = [cv2.LUT(index, table) for table in tables]
    a, b, c = terms
    a *= x
    b *= y
    a += b
    a += c
    return a
