"""The camera, and the room in front of it.

Coordinates are meters relative to the left camera at the first frame: x right, y down, z forward. A surface is given by
its axes, a (3, 3) matrix that maps its (u, v, 1) to space; on walls and floors (u, v) are in texels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from densevision.cached_property import cached_property

Rng = np.random.Generator
Size = tuple[int, int]

__all__ = ["STUFF", "Camera", "Rng", "Room", "build_room", "rotation_matrix"]

STUFF = ("wall", "floor")
"""Classes of the room's surfaces; in the semantic labels they precede the objects."""

_TEXEL_DEPTH = 2.5
_FLOOR_PROBABILITY = 0.8
_SIDE_PROBABILITY = 0.4


@dataclass(frozen=True)
class Camera:
    """The stereo rig of all scenes, whose fixed geometry allows metric depth to be learned.

    Attributes:
        size: (height, width) of its images.
        baseline: Distance between the cameras in meters.
    """

    size: Size
    baseline: float = 0.15

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.9 * max(self.size)

    @property
    def scale(self) -> float:
        """Size relative to a camera whose longer side has 320 pixels."""
        return max(self.size) / 320

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsics, (3, 3) float64; the principal point is the image center."""
        height, width = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]])

    def ray(self, x: float, y: float) -> np.ndarray:
        """Returns the point at depth 1 that projects to pixel coordinates (x, y)."""
        height, width = self.size
        return np.array([(x - width / 2) / self.focal, (y - height / 2) / self.focal, 1])


@dataclass(frozen=True)
class Room:
    """The walls and the floor: the inside of a convex body.

    Attributes:
        axes: (P, 3, 3) float64.
        stuff: Index into STUFF of each surface.
        tilt: (3, 3) rotation from coordinates with a level floor to those of the camera.
        light: Direction in which the light travels, unit length.
    """

    axes: np.ndarray
    stuff: tuple[int, ...]
    tilt: np.ndarray
    light: np.ndarray

    @cached_property
    def floor(self) -> int | None:
        """Index of the floor; None if there is none."""
        return self.stuff.index(STUFF.index("floor")) if STUFF.index("floor") in self.stuff else None

    @cached_property
    def normals(self) -> np.ndarray:
        """Unit normals (P, 3) that point into the room."""
        across = np.cross(self.axes[:, :, 0], self.axes[:, :, 1])
        inwards = -np.sign(np.sum(across * self.axes[:, :, 2], 1, keepdims=True))
        return across * inwards / np.linalg.norm(across, axis=1, keepdims=True)

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Returns the (K, P) distances of points (K, 3) from each surface; negative behind it."""
        return points @ self.normals.T - self._offsets

    @cached_property
    def slopes(self) -> np.ndarray:
        """(P, 3): slopes @ ray is the inverse depth of each surface along a ray; the largest one is visible."""
        return np.linalg.inv(self.axes)[:, 2]

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.sum(self.normals * self.axes[:, :, 2], 1)


def rotation_matrix(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Returns the rotation (3, 3) float64 by a vector of radians."""
    return cv2.Rodrigues(np.array([x, y, z]))[0]


def build_room(rng: Rng, camera: Camera) -> Room:
    """Samples a room: a back wall, mostly with floor and side walls, seen by a slightly tilted camera."""
    tilt = rotation_matrix(x=rng.uniform(0.03, 0.45)) @ rotation_matrix(z=rng.normal(0, 0.04))
    turn = rotation_matrix(y=rng.uniform(-0.4, 0.4))
    light = np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.8), 1.0, rng.uniform(0.35, 0.9)])
    across, down, along = np.eye(3)
    if rng.random() < _FLOOR_PROBABILITY:
        surfaces = [("wall", turn @ across, down, turn @ along * rng.uniform(4.5, 9)), _sample_floor(rng)]
        for side in (-1, 1):
            distance = rng.uniform(2, 4)
            if rng.random() < _SIDE_PROBABILITY:
                surfaces.append(("wall", turn @ along, down, turn @ across * (side * distance)))
    else:
        turn = turn @ rotation_matrix(x=rng.normal(0, 0.15))
        surfaces = [("wall", turn @ across, turn @ down, turn @ along * rng.uniform(3, 7))]
    axes = np.stack([tilt @ _scale_to_texels(rng, camera, u, v, origin) for _, u, v, origin in surfaces])
    stuff = tuple(STUFF.index(name) for name, *_ in surfaces)
    return Room(axes, stuff, tilt, tilt @ (light / np.linalg.norm(light)))


def _sample_floor(rng: Rng) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    turn = rotation_matrix(y=rng.uniform(-0.8, 0.8))
    return "floor", turn[:, 0], turn[:, 2], np.array([0, rng.uniform(1.0, 1.8), 0])


def _scale_to_texels(rng: Rng, camera: Camera, u: np.ndarray, v: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Returns axes in texels, each about as large as a pixel at medium depth."""
    texel = _TEXEL_DEPTH / camera.focal * np.exp(rng.normal(0, 0.35))
    start_u, start_v = rng.integers(0, 512, 2)
    return np.stack([texel * u, texel * v, origin - texel * (start_u * u + start_v * v)], 1)
