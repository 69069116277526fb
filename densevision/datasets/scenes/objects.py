"""The things in a room: where they are, and how they and the camera move.

A thing is a card: its shape lies in (u, v) in [-1, 1], and its axes take (u, v, 1) to space.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.scenes.room import Camera, Rng, Room, turned
from densevision.datasets.scenes.shapes import CLASSES, outline

_NEAR, _FAR = 1.3, 7.5
_LEAST_HALF, _MOST_HALF = 0.2, 0.8
_STANDING = 0.55
_LEAST_AREA = 100.0
_LOG_HALVES = np.log(_LEAST_HALF), np.log(_MOST_HALF)
_MOST_TURN = np.array([0.6, 0.4, np.pi])
_MOST_SHARE = 0.4
_LEAST_VISIBLE = 0.45
_SLOWEST, _FASTEST = 0.3, 18.0
_CANVAS = 96


@dataclass(frozen=True)
class Thing:
    """A textured card.

    Attributes:
        label: Index into CLASSES.
        axes: (3, 3) float64.
    """

    label: int
    axes: np.ndarray

    @property
    def depth(self) -> float:
        """Of its center, in meters."""
        return self.axes[2, 2]

    def contours(self, camera: Camera) -> list[np.ndarray]:
        """Its outline in the image, (K, 2) pixel coordinates for each contour."""
        projection = camera.matrix @ self.axes
        points = [part @ projection[:, :2].T + projection[:, 2] for part in outline(CLASSES[self.label])]
        return [part[:, :2] / part[:, 2:] for part in points]


def place_things(rng: Rng, camera: Camera, room: Room, count: int) -> list[Thing]:
    """Things that are each large enough and mostly in sight, ordered from far to near.

    Fewer than `count` come back where no place was found for all.
    """
    sight, placed = _Sight(camera), []
    for depth in np.sort(np.exp(rng.uniform(np.log(_NEAR), np.log(_FAR), count))):
        for _ in range(3):
            thing = _candidate(rng, camera, room, depth)
            # Each thing is behind those placed before it, which alone can hide it.
            if thing and (not placed or thing.depth > placed[-1].depth) and sight.admits(thing):
                placed.append(thing)
                break
    return placed[::-1]


class _Sight:
    """What is still in sight behind the things placed so far, on a coarse canvas with the image in its middle."""

    def __init__(self, camera: Camera):
        self.camera = camera
        self.step = _CANVAS / max(camera.size)
        height, width = (max(1, round(side * self.step)) for side in camera.size)
        x, y = _CANVAS - width // 2, _CANVAS - height // 2
        self.corner = np.array([x, y])
        self.open = np.zeros((2 * _CANVAS, 2 * _CANVAS), np.uint8)
        self.open[y : y + height, x : x + width] = 1

    def admits(self, thing: Thing) -> bool:
        """Whether a thing behind all others would be seen well; if so, it takes its place."""
        contours = thing.contours(self.camera)
        area = cv2.contourArea(contours[0].astype(np.float32))
        height, width = self.camera.size
        if not _LEAST_AREA * min(1.0, self.camera.scale) <= area <= _MOST_SHARE * height * width:
            return False
        cells = [np.round((part * self.step + self.corner) * 16 - 8).astype(np.int32) for part in contours]
        covered = cv2.fillPoly(np.zeros_like(self.open), cells, 1, shift=4)
        if np.count_nonzero(covered & self.open) < _LEAST_VISIBLE * np.count_nonzero(covered):
            return False
        self.open &= 1 - covered
        return True


def _candidate(rng: Rng, camera: Camera, room: Room, depth: float) -> Thing | None:
    """A thing about this deep, on the floor or in the air; None where it would reach into a wall or be too near."""
    height, width = camera.size
    label, standing = int(rng.integers(len(CLASSES))), rng.random() < _STANDING
    ray = camera.ray(rng.uniform(0, width), rng.uniform(0, height))
    aspect = np.exp(rng.normal(0, 0.1))
    half = np.exp(rng.uniform(*_LOG_HALVES)) * np.array([aspect, 1 / aspect])
    yaw, pitch, roll = _MOST_TURN * (2 * rng.random(3) - 1)
    standing = standing and room.floor is not None
    turn = turned(z=roll / 16) if standing else turned(x=pitch) @ turned(z=roll)
    sides = room.tilt @ turned(y=yaw) @ turn[:, :2] * half
    center = ray * min(depth, 0.9 / (room.slopes @ ray).max())
    points = outline(CLASSES[label])[0] @ sides.T + center
    if room.floor is not None:
        above = room.clearance(points)[:, room.floor].min()
        drop = (above if standing else min(0, above)) * room.normals[room.floor]
        points, center = points - drop, center - drop
    if room.clearance(points).min() < -1e-6 or points[:, 2].min() < 0.5 * _NEAR:
        return None
    return Thing(label, np.column_stack([sides, center]))


def move_camera(rng: Rng, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) from the first frame's coordinates to the second's; sometimes none."""
    pixels = _pace(rng, camera, still=0.12)
    chance = rng.standard_normal(6).clip(-2, 2)
    around = pixels * chance[:3] * (0.4 / camera.focal, 0.4 / camera.focal, 0.5 / max(camera.size))
    along = pixels * chance[3:] * np.array([2.5, 1.7, 4.0]) / camera.focal
    return turned(*around), along


def move_thing(rng: Rng, camera: Camera, axes: np.ndarray) -> np.ndarray:
    """The axes of a thing at the second frame: shifted, turned, nearer or farther; sometimes unchanged."""
    pixels = _pace(rng, camera, still=0.25)
    chance = rng.standard_normal(6).clip(-2, 2)
    per_pixel = axes[2, 2] / camera.focal
    angle = min(pixels * per_pixel / np.linalg.norm(axes[:, 0]), 0.3)
    moved = turned(*(angle * chance[:3] * (0.2, 0.2, 0.5))) @ axes
    moved[:, 2] = axes[:, 2] + chance[3:] * (pixels * per_pixel, pixels * per_pixel, 0.2 * angle * axes[2, 2])
    return moved


def _pace(rng: Rng, camera: Camera, still: float) -> float:
    """How far something moves, in pixels: none, or small and large paces alike on a logarithmic scale."""
    moves, pixels = rng.random() >= still, np.exp(rng.uniform(np.log(_SLOWEST), np.log(_FASTEST)))
    return moves * pixels * camera.scale
