"""Where what one view shows is found in another one."""

from __future__ import annotations

import cv2
import numpy as np

from densevision.datasets.scenes.render import Frame
from densevision.datasets.scenes.world import World


def follow(world: World, source: int, seen: Frame, target: int, later: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The displacement of every pixel's surface point, and whether it is lost from sight.

    Args:
        world: What both views see.
        source: The view that `seen` was rendered for.
        seen: Its frame.
        target: The view that `later` was rendered for.
        later: Its frame.

    Returns:
        (2, H, W) float32, x and y in pixels; and (H, W) bool, true where the point lies outside the target's image
        or another surface is in front of it there.
    """
    height, width = seen.index.shape
    back = np.linalg.inv(world.projections(target))
    onward = world.projections(target) @ np.linalg.inv(world.projections(source))
    x, y = np.arange(width, dtype=np.float32) + 0.5, (np.arange(height, dtype=np.float32) + 0.5)[:, None]

    def mapped(row: int) -> np.ndarray:
        return _affine(onward[:, row], seen.index, x, y)

    depth_ratio = mapped(2)
    to_x, to_y = mapped(0), mapped(1)
    to_x /= depth_ratio
    to_y /= depth_ratio
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    column, row = (np.clip(to, 0, side - 1).astype(np.int32) for to, side in ((to_x, width), (to_y, height)))
    # The surface found at the nearest pixel is compared at the exact place: on a slope half a pixel would count.
    found = later.index.ravel()[row * width + column]
    in_front = _affine(back[:, 2], found, to_x, to_y) > seen.inverse / depth_ratio * np.float32(1 + 1e-4)
    return np.stack([to_x - x, to_y - y]), ~inside | (in_front & (found != seen.index))


def _affine(rows: np.ndarray, index: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """rows[index] . (x, y, 1), float32."""
    tables = np.zeros((3, 256), np.float32)
    tables[:, : len(rows)] = rows.T
    a, b, c = (cv2.LUT(index, table) for table in tables)
    a *= x
    b *= y
    a += b
    a += c
    return a
