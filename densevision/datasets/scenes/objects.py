"""Objects in a room: their placement, and the motion of objects and camera.

An object is a flat card: its shape is in (u, v) in [-1, 1], and its axes map (u, v, 1) to space.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.scenes.room import Camera, Rng, Room, rotation_matrix
from densevision.datasets.scenes.shapes import CLASSES, get_contours

__all__ = ["SceneObject", "move_camera", "move_object", "place_objects"]

_NEAR, _FAR = 1.3, 7.5
_MIN_HALF, _MAX_HALF = 0.2, 0.8
_STANDING_PROBABILITY = 0.55
_MIN_AREA = 100.0
_LOG_HALVES = np.log(_MIN_HALF), np.log(_MAX_HALF)
_MAX_TURN = np.array([0.6, 0.4, np.pi])
_MAX_SHARE = 0.4
_MIN_VISIBLE = 0.45
_MIN_SPEED, _MAX_SPEED = 0.3, 18.0
_CANVAS = 96


@dataclass(frozen=True)
class SceneObject:
    """A textured card.

    Attributes:
        label: Index into CLASSES.
        axes: (3, 3) float64.
    """

    label: int
    axes: np.ndarray

    @property
    def depth(self) -> float:
        """Depth of its center in meters."""
        return self.axes[2, 2]

    def contours(self, camera: Camera) -> list[np.ndarray]:
        """Returns its contours in the image, (K, 2) pixel coordinates each."""
        projection = camera.matrix @ self.axes
        points = [part @ projection[:, :2].T + projection[:, 2] for part in get_contours(CLASSES[self.label])]
        return [part[:, :2] / part[:, 2:] for part in points]


def place_objects(rng: Rng, camera: Camera, room: Room, count: int) -> list[SceneObject]:
    """Places objects that are large enough and mostly visible, ordered from far to near.

    The result has fewer than `count` objects if there is no place for all.
    """
    visible_area = _VisibleArea(camera)
    placed_items: list[SceneObject] = []
    for depth in np.sort(np.exp(rng.uniform(np.log(_NEAR), np.log(_FAR), count))):
        for _ in range(3):
            item = _sample_object(rng, camera, room, depth)
            # Each object is behind those placed before it, so only these can occlude it.
            if item and (not placed_items or item.depth > placed_items[-1].depth) and visible_area.try_place(item):
                placed_items.append(item)
                break
    return placed_items[::-1]


class _VisibleArea:
    """The visible area behind the objects placed so far, on a coarse canvas with the image in its center."""

    def __init__(self, camera: Camera):
        self.camera = camera
        self.step = _CANVAS / max(camera.size)
        height, width = (max(1, round(side * self.step)) for side in camera.size)
        x, y = _CANVAS - width // 2, _CANVAS - height // 2
        self.corner = np.array([x, y])
        self.open: np.ndarray = np.zeros((2 * _CANVAS, 2 * _CANVAS), np.uint8)
        self.open[y : y + height, x : x + width] = 1

    def try_place(self, item: SceneObject) -> bool:
        """Adds an object behind all others if it is sufficiently visible; returns whether it was added."""
        contours = item.contours(self.camera)
        area = cv2.contourArea(contours[0].astype(np.float32))
        height, width = self.camera.size
        if not _MIN_AREA * min(1.0, self.camera.scale) <= area <= _MAX_SHARE * height * width:
            return False
        cells = [np.round((part * self.step + self.corner) * 16 - 8).astype(np.int32) for part in contours]
        covered: np.ndarray = cv2.fillPoly(np.zeros_like(self.open), cells, 1, shift=4)
        if np.count_nonzero(covered & self.open) < _MIN_VISIBLE * np.count_nonzero(covered):
            return False
        self.open &= 1 - covered
        return True


def _sample_object(rng: Rng, camera: Camera, room: Room, depth: float) -> SceneObject | None:
    """Samples an object at about a depth, on the floor or in the air; None if it intersects a wall or is too near."""
    height, width = camera.size
    label, is_standing = int(rng.integers(len(CLASSES))), rng.random() < _STANDING_PROBABILITY
    ray = camera.ray(rng.uniform(0, width), rng.uniform(0, height))
    aspect = np.exp(rng.normal(0, 0.1))
    half = np.exp(rng.uniform(*_LOG_HALVES)) * np.array([aspect, 1 / aspect])
    yaw, pitch, roll = _MAX_TURN * (2 * rng.random(3) - 1)
    is_standing = is_standing and room.floor is not None
    turn = rotation_matrix(z=roll / 16) if is_standing else rotation_matrix(x=pitch) @ rotation_matrix(z=roll)
    sides = room.tilt @ rotation_matrix(y=yaw) @ turn[:, :2] * half
    center = ray * min(depth, 0.9 / (room.slopes @ ray).max())
    points = get_contours(CLASSES[label])[0] @ sides.T + center
    if room.floor is not None:
        above = room.clearance(points)[:, room.floor].min()
        drop = (above if is_standing else min(0, above)) * room.normals[room.floor]
        points, center = points - drop, center - drop
    if room.clearance(points).min() < -1e-6 or points[:, 2].min() < 0.5 * _NEAR:
        return None
    return SceneObject(label, np.column_stack([sides, center]))


def move_camera(rng: Rng, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Samples the rotation (3, 3) and translation (3,) from the first to the second frame; sometimes no motion."""
    pixels = _sample_speed(rng, camera, still_probability=0.12)
    sample = rng.standard_normal(6).clip(-2, 2)
    around = pixels * sample[:3] * (0.4 / camera.focal, 0.4 / camera.focal, 0.5 / max(camera.size))
    along = pixels * sample[3:] * np.array([2.5, 1.7, 4.0]) / camera.focal
    return rotation_matrix(*around), along


def move_object(rng: Rng, camera: Camera, axes: np.ndarray) -> np.ndarray:
    """Samples the axes of an object in the second frame: moved and rotated; sometimes unchanged."""
    pixels = _sample_speed(rng, camera, still_probability=0.25)
    sample = rng.standard_normal(6).clip(-2, 2)
    per_pixel = axes[2, 2] / camera.focal
    angle = min(pixels * per_pixel / np.linalg.norm(axes[:, 0]), 0.3)
    moved = rotation_matrix(*(angle * sample[:3] * (0.2, 0.2, 0.5))) @ axes
    moved[:, 2] = axes[:, 2] + sample[3:] * (pixels * per_pixel, pixels * per_pixel, 0.2 * angle * axes[2, 2])
    return moved


def _sample_speed(rng: Rng, camera: Camera, still_probability: float) -> float:
    """Samples a motion in pixels: none, or log-uniform."""
    moves, pixels = rng.random() >= still_probability, np.exp(rng.uniform(np.log(_MIN_SPEED), np.log(_MAX_SPEED)))
    return moves * pixels * camera.scale
