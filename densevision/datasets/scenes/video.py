"""Procedural videos: objects that move through a room, with exact boxes and identities in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from densevision.datasets.scenes.room import STUFF, Camera, rotation_matrix
from densevision.datasets.scenes.scene import Scene
from densevision.datasets.scenes.shapes import CLASSES, get_contours
from densevision.datasets.scenes.texture import Materials
from densevision.datasets.scenes.world import LEFT, World, build_world
from densevision.results import Detections
from densevision.sample import Sample

__all__ = ["SceneVideo"]

MIN_VISIBLE = 0.25
"""Objects of which a smaller fraction is visible have no box."""
MIN_SPEED, MAX_SPEED = 0.5, 4.0
"""Pixels per frame of an image whose longer side has 320 pixels."""
MAX_SWAY = 0.3
"""Radians by which an object turns about itself to either side."""
MAX_FRAMES = 100_000


class SceneVideo:
    """A video of a fixed camera; it depends only on the seed and its number.

    Objects keep their depth and move along straight lines, are reflected where their centers reach the border of the
    image, and occlude each other. An identity is one more than the object's place from far to near, so that it stays
    the same through occlusions.

    Args:
        frames: Number of frames.
        seed: Seed of the videos.
        number: Number of the video; videos of one seed with different numbers are independent.
        size: (height, width).
    """

    def __init__(self, frames: int = 100, seed: int = 0, number: int = 0, size: tuple[int, int] = (320, 320)):
        self.frames, self.size = min(frames, MAX_FRAMES), size
        self._key = (seed, number)
        self._world = build_world(np.random.default_rng((seed, number, 3)), Camera(size), Materials.of(None))
        rng = np.random.default_rng((seed, number, 4))
        objects = self._world.axes[LEFT, self._world.planes :]
        self._starts = self._project(objects[:, :, 2])
        speeds = np.exp(rng.uniform(np.log(MIN_SPEED), np.log(MAX_SPEED), len(objects))) * self._world.camera.scale
        angles = rng.uniform(0, 2 * np.pi, len(objects))
        self._steps = speeds[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        self._sways = rng.uniform(0, MAX_SWAY, len(objects))
        self._periods = rng.uniform(40, 120, len(objects))

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self.frames))

    def __getitem__(self, index: int) -> Sample:
        """A frame: `image`, and `Detections` with `track_ids` as its ground truth."""
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index} of {self.frames}")
        world = self._move(index)
        seed, number = self._key
        scene = Scene(world, (seed, number * MAX_FRAMES + index))
        areas = scene.masks.sum((1, 2))
        numbers = scene.object_numbers
        is_kept = areas >= MIN_VISIBLE * np.array([self._measure_area(world, number) for number in numbers.tolist()])
        truth = Detections.from_arrays(scene.boxes, scene.labels, CLASSES, scene.size, track_ids=numbers + 1)
        return Sample({"image": scene.image}, truth[is_kept], index)

    def _move(self, index: int) -> World:
        """The world at a frame."""
        world = self._world
        axes = world.axes[LEFT].copy()
        height, width = self.size
        for item, (start, step) in enumerate(zip(self._starts, self._steps)):
            x, y = _reflect(start[0] + index * step[0], width), _reflect(start[1] + index * step[1], height)
            angle = self._sways[item] * np.sin(2 * np.pi * index / self._periods[item])
            surface = axes[world.planes + item]
            depth = surface[2, 2]
            surface[:, :2] = rotation_matrix(z=angle) @ surface[:, :2]
            surface[:, 2] = depth * world.camera.ray(x, y)
        return replace(world, axes=axes[None], light=world.light[:1])

    def _project(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) pixel coordinates of (N, 3) points."""
        projected = points @ self._world.camera.matrix.T
        return projected[:, :2] / projected[:, 2:]

    def _measure_area(self, world: World, item: int) -> float:
        """Pixels that an object would cover if nothing were in front of it; a second contour is a hole."""
        axes = world.axes[0, world.planes + item]
        outer, *holes = (
            self._project(contour @ axes[:, :2].T + axes[:, 2]).astype(np.float32)
            for contour in get_contours(CLASSES[world.labels[world.planes + item] - len(STUFF)])
        )
        return cv2.contourArea(outer) - sum(cv2.contourArea(hole) for hole in holes)


def _reflect(position: float, length: float) -> float:
    """A position that moves to and fro in [0, length].

    >>> [_reflect(position, 10) for position in (3, 12, -4, 25)]
    [3, 8, 4, 5]
    """
    folded = position % (2 * length)
    return min(folded, 2 * length - folded)
