"""Shapes of the objects in a scene: contours, signed distance, and bevel.

A shape is defined in a square, (x, y) in [-1, 1] with y down.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import cv2
import numpy as np

__all__ = ["CLASSES", "GRID", "compute_bevel", "compute_signed_distance", "get_contours"]

GRID = 128
"""Side of the grids below, in cells."""

_FINE = 1024
_BEVEL_WIDTH = 0.16
_TURN = np.linspace(0, 2 * np.pi, 96, endpoint=False)


def _points(angles: np.ndarray, radius: float) -> np.ndarray:
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _polygon(degrees: Iterable[float], radius: float) -> np.ndarray:
    return _points(np.deg2rad(np.array(list(degrees), np.float64)), radius)


def _build_star() -> np.ndarray:
    points, valleys = _polygon(range(-90, 270, 72), 0.98), _polygon(range(-54, 306, 72), 0.42)
    return np.stack([points, valleys], 1).reshape(-1, 2)


def _build_cross(arm: float = 0.29, extent: float = 0.88) -> np.ndarray:
    quarter = np.array([[arm, -extent], [arm, -arm], [extent, -arm]])
    turns = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    return np.concatenate([quarter @ np.array([[cos, sin], [-sin, cos]]) for cos, sin in turns])


def _build_heart() -> np.ndarray:
    x = 16 * np.sin(_TURN) ** 3
    y = 13 * np.cos(_TURN) - 5 * np.cos(2 * _TURN) - 2 * np.cos(3 * _TURN) - np.cos(4 * _TURN)
    return np.stack([x, -y - 2.5], 1) / 17.5


def _build_moon() -> np.ndarray:
    outer = _points(np.linspace(0.2, 1.8, 64) * np.pi, 0.92)
    angles = np.linspace(1.72, 0.28, 64) * np.pi
    inner = _points(angles, outer[0, 1] / np.sin(angles[-1]))
    return np.concatenate([outer, inner + (outer[-1] - inner[0])])


# A second contour is a hole.
_CONTOURS = {
    "disk": [_points(_TURN, 0.86)],
    "ring": [_points(_TURN, 0.9), _points(_TURN, 0.5)],
    "square": [_polygon([45, 135, 225, 315], 1.06)],
    "triangle": [_polygon([-90, 30, 150], 1.04) + (0, 0.2)],
    "star": [_build_star()],
    "cross": [_build_cross()],
    "heart": [_build_heart()],
    "moon": [_build_moon()],
}

CLASSES = tuple(_CONTOURS)
"""Names of the object classes, in the order of their labels."""


def get_contours(name: str) -> list[np.ndarray]:
    """Returns the closed contours of a shape, (K, 2) float64 each; a second contour is a hole."""
    return _CONTOURS[name]


@cache
def compute_signed_distance(name: str) -> np.ndarray:
    """Computes the distance to the contour, (GRID, GRID) float32: positive inside, negative outside."""
    contours = [np.round((points + 1) * (_FINE / 2) * 16 - 8).astype(np.int32) for points in get_contours(name)]
    inside = cv2.fillPoly(np.zeros((_FINE, _FINE), np.uint8), contours, 1, shift=4)
    to_outside, to_inside = (
        cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (inside, 1 - inside)
    )
    return cv2.resize((to_outside - to_inside) * (2 / _FINE), (GRID, GRID), interpolation=cv2.INTER_AREA)


@cache
def compute_bevel(name: str) -> np.ndarray:
    """Computes the slope of a rounded border, (2, GRID, GRID) float32: (x, y) outwards; 0 in the flat interior."""
    depth = compute_signed_distance(name)
    slope = np.stack([cv2.Sobel(depth, cv2.CV_32F, dx, 1 - dx, scale=-GRID / 16) for dx in (1, 0)])
    return slope * np.clip(1 - depth / _BEVEL_WIDTH, 0, 1)
