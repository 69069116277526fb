"""Projection of surfaces onto the image: the pixels that they cover, their depth there, and their texture.

A projection is a (3, 3) homography from a surface's (u, v, 1) to pixel coordinates times depth. Its inverse maps a
pixel to (u, v, 1) over depth, so its last row gives the inverse depth.
"""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[int, int, int, int]
"""A rectangle of pixels: x, y, width, height."""

_SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)

__all__ = [
    "NEAREST",
    "Box",
    "compute_areas",
    "compute_bounds",
    "compute_inverse_depth",
    "map_to_grid",
    "project_corners",
    "to_slices",
    "warp",
    "warp_repeated",
]

NEAREST = 0.1
"""Surfaces nearer than this, in meters, are not drawn."""


def to_slices(box: Box) -> tuple[slice, slice]:
    """Returns the rows and columns of a box."""
    x, y, width, height = box
    return np.s_[y : y + height, x : x + width]


def project_corners(projections: np.ndarray, extent: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Projects the corners of the square [-extent, extent] with each of (N, 3, 3) projections.

    Returns:
        (N, 4, 2) float64 in pixels; and (N,) bool, whether all four are in front of the camera. Otherwise the corners
        are meaningless.
    """
    points = extent * _SQUARE @ projections[:, :, :2].transpose(0, 2, 1) + projections[:, None, :, 2]
    depth = points[:, :, 2:]
    return points[:, :, :2] / np.maximum(depth, NEAREST), depth.min((1, 2)) > NEAREST


def compute_bounds(quads: np.ndarray, size: tuple[int, int]) -> list[Box]:
    """Returns the box of pixels that each of (N, 4, 2) quadrilaterals can cover; width or height is 0 if outside."""
    limit = np.array(size[::-1])
    start = np.floor(quads.min(1)).clip(0, limit).astype(int)
    extent = np.ceil(quads.max(1)).clip(start, limit).astype(int) - start
    return [tuple(box) for box in np.concatenate([start, extent], 1).tolist()]


def compute_areas(quads: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas of (N, 4, 2) quadrilaterals."""
    first, second = quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]
    return np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def compute_inverse_depth(to_surface: np.ndarray, box: Box) -> np.ndarray:
    """Computes the inverse depth of a plane at the pixel centers of a box, (height, width) float32."""
    x, y, width, height = box
    slope_x, slope_y, offset = to_surface[2]
    across = slope_x * (np.arange(x, x + width) + 0.5) + offset
    down = slope_y * (np.arange(y, y + height) + 0.5)
    return across.astype(np.float32) + down.astype(np.float32)[:, None]


def map_to_grid(to_square: np.ndarray, side: int, extent: float = 1.0) -> np.ndarray:
    """Converts a map to the square [-extent, extent] to a map to the texels of a grid that covers it."""
    half = side / 2
    return np.array([[half / extent, 0, half], [0, half / extent, half], [0, 0, 1]]) @ to_square


def warp(texture: np.ndarray, to_texels: np.ndarray, box: Box, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """Samples a texture at the pixel centers of a box bilinearly; `border` is an OpenCV border type."""
    x, y, width, height = box
    first_center = np.array([[1, 0, x + 0.5], [0, 1, y + 0.5], [0, 0, 1]])
    texel_center = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = texel_center @ to_texels @ first_center
    return cv2.warpPerspective(texture, matrix, (width, height), flags=flags, borderMode=border)


def warp_repeated(tile: np.ndarray, to_texels: np.ndarray, box: Box, border: int) -> np.ndarray:
    """Samples a tile that is repeated over the plane.

    OpenCV is several times slower outside a texture than inside, so the tile is first repeated over the needed area.
    """
    x, y, width, height = box
    outline = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1], [x + width, y + height, 1]]) @ to_texels.T
    if outline[:, 2].min() > 0:
        texels = outline[:, :2] / outline[:, 2:]
        period = len(tile) * (2 if border == cv2.BORDER_REFLECT else 1)
        start = (texels.min(0) - 1) // period * period
        right, down = np.maximum(0, np.ceil(texels.max(0) - start) + 1 - len(tile)).astype(int)
        if right + down < 6 * len(tile):
            tile = cv2.copyMakeBorder(tile, 0, down, 0, right, border)
            to_texels = np.array([[1, 0, -start[0]], [0, 1, -start[1]], [0, 0, 1]]) @ to_texels
            border = cv2.BORDER_REPLICATE
    return warp(tile, to_texels, box, border)
