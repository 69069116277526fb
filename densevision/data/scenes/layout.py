"""Where everything is: the camera, the room, the things in it, and how all of them move.

Metres, in the coordinates of the left camera at the first frame: x right, y down, z forward. A surface is given by its
axes, a (3, 3) matrix whose columns take its own (u, v, 1) to space. A wall or floor is unbounded and (u, v) counts
texels; a thing is a card, and its shape lies in (u, v) in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from densevision.data.scenes.shapes import CLASSES, outline

Rng = np.random.Generator
Size = tuple[int, int]

STUFF = ("wall", "floor")
"""Names of what a room is made of; in the semantic labels they precede the things."""

_FOCAL = 0.9
_BASELINE = 0.15
_TEXEL_DEPTH = 2.5
_NEAR, _FAR = 1.4, 8.0
_LEAST_AREA = 100.0
_LEAST_VISIBLE = 0.45
_CANVAS = 96


@dataclass(frozen=True)
class Camera:
    """One rig for all scenes, so that depth can be learnt from single pictures and from stereo alike.

    Attributes:
        size: Of its pictures, (height, width).
    """

    size: Size

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return _FOCAL * max(self.size)

    @property
    def baseline(self) -> float:
        """Distance of the right camera from the left one, in metres."""
        return _BASELINE

    @property
    def scale(self) -> float:
        """Pixels of this camera per pixel of one whose longer side has 320."""
        return max(self.size) / 320

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsics, (3, 3) float64; the principal point is the picture's middle."""
        height, width = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]])

    def ray(self, x: float, y: float) -> np.ndarray:
        """The point at depth 1 that is seen at pixel coordinates (x, y)."""
        height, width = self.size
        return np.array([(x - width / 2) / self.focal, (y - height / 2) / self.focal, 1])


@dataclass(frozen=True)
class Room:
    """The surfaces behind everything.

    Attributes:
        axes: (P, 3, 3) float64.
        stuff: Index into STUFF of each.
        tilt: (3, 3) rotation from upright coordinates, in which the floor is level, to the camera's.
        light: Direction in which the light travels, unit length.
    """

    axes: np.ndarray
    stuff: tuple[int, ...]
    tilt: np.ndarray
    light: np.ndarray

    @cached_property
    def normals(self) -> np.ndarray:
        """Unit normals (P, 3) that point into the room."""
        across = np.cross(self.axes[:, :, 0], self.axes[:, :, 1])
        inwards = -np.sign(np.sum(across * self.axes[:, :, 2], 1, keepdims=True))
        return across * inwards / np.linalg.norm(across, axis=1, keepdims=True)

    def inverse_depth(self, ray: np.ndarray) -> np.ndarray:
        """One over the depth of each surface along a ray, (P,); the largest is what is seen, as the room is convex."""
        return self._slopes @ ray

    @cached_property
    def _slopes(self) -> np.ndarray:
        return np.linalg.inv(self.axes)[:, 2]


@dataclass(frozen=True)
class Thing:
    """A textured card.

    Attributes:
        label: Index into CLASSES.
        axes: (3, 3) float64.
    """

    label: int
    axes: np.ndarray

    def contours(self, camera: Camera, reach: float = np.inf) -> list[np.ndarray]:
        """Its outline in the picture, (K, 2) pixel coordinates for each contour."""
        points = [np.column_stack([part, np.ones(len(part))]) @ (camera.matrix @ self.axes).T for part in outline(CLASSES[self.label])]
        return [part[:, :2] / part[:, 2:] for part in points]


def turned(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Rotation by a vector of radians, (3, 3) float64."""
    return cv2.Rodrigues(np.array([x, y, z]))[0]


def build_room(rng: Rng, camera: Camera) -> Room:
    """A back wall, and mostly a floor and side walls; the camera looks about level or down, a little askew."""
    tilt = turned(x=rng.uniform(0.03, 0.45)) @ turned(z=rng.normal(0, 0.04))
    turn = turned(y=rng.uniform(-0.4, 0.4))
    light = np.array([rng.choice([-1, 1]) * rng.uniform(0.2, 0.8), 1.0, rng.uniform(0.35, 0.9)])
    floored, sides = rng.random() < 0.8, rng.random(2) < 0.4
    across, down, along = np.eye(3)
    if floored:
        surfaces = [(0, turn @ across, down, turn @ (along * rng.uniform(4.5, 9))), _floor(rng)]
        for side, there in zip((-1, 1), sides):
            if there:
                surfaces.append((0, turn @ along, down, turn @ (across * side * rng.uniform(2, 4))))
    else:
        turn = turn @ turned(x=rng.normal(0, 0.15))
        surfaces = [(0, turn @ across, turn @ down, turn @ (along * rng.uniform(3, 7)))]
    axes = np.stack([tilt @ _textured(rng, camera, u, v, origin) for _, u, v, origin in surfaces])
    return Room(axes, tuple(stuff for stuff, *_ in surfaces), tilt, tilt @ (light / np.linalg.norm(light)))


def _floor(rng: Rng) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    turn = turned(y=rng.uniform(-0.8, 0.8))
    return 1, turn[:, 0], turn[:, 2], np.array([0, rng.uniform(1.0, 1.8), 0])


def _textured(rng: Rng, camera: Camera, u: np.ndarray, v: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Axes that count texels, which measure about a pixel at a middling depth."""
    texel = _TEXEL_DEPTH / camera.focal * np.exp(rng.normal(0, 0.35))
    u, v = u * texel, v * texel
    return np.stack([u, v, origin - rng.integers(0, 512) * u - rng.integers(0, 512) * v], 1)


def place_things(rng: Rng, camera: Camera, room: Room, count: int) -> list[Thing]:
    """Things that are each large enough and mostly in sight, ordered from far to near.

    Fewer than `count` come back where no place was found for all.
    """
    sight = _Sight(camera)
    placed = []
    for depth in np.sort(np.exp(rng.uniform(np.log(_NEAR), np.log(_FAR), count))):
        for _ in range(3):
            thing = _candidate(rng, camera, room, depth)
            if thing is not None and sight.admits(thing):
                placed.append(thing)
                break
    return placed[::-1]


class _Sight:
    """What is still in sight behind the things placed so far, on a coarse canvas with the picture in its middle."""

    def __init__(self, camera: Camera):
        self.camera = camera
        self.step = _CANVAS / max(camera.size)
        height, width = (max(1, round(side * self.step)) for side in camera.size)
        self.open = np.zeros((2 * _CANVAS, 2 * _CANVAS), np.uint8)
        self.corner = np.array([(2 * _CANVAS - width) // 2, (2 * _CANVAS - height) // 2])
        self.open[self.corner[1] : self.corner[1] + height, self.corner[0] : self.corner[0] + width] = 1

    def admits(self, thing: Thing) -> bool:
        """Whether a thing behind all others would be seen well; if so, it takes its place."""
        contours = thing.contours(self.camera)
        area = cv2.contourArea(contours[0].astype(np.float32))
        height, width = self.camera.size
        if not _LEAST_AREA * min(1.0, self.camera.scale) <= area <= 0.4 * height * width:
            return False
        cells = [np.round((part * self.step + self.corner) * 16 - 8).astype(np.int32) for part in contours]
        covered = cv2.fillPoly(np.zeros_like(self.open), cells, 1, shift=4)
        if np.count_nonzero(covered & self.open) < _LEAST_VISIBLE * np.count_nonzero(covered):
            return False
        self.open &= 1 - covered
        return True


def _candidate(rng: Rng, camera: Camera, room: Room, depth: float) -> Thing | None:
    """A thing about this deep: on the floor where there is one, or in the air; None if that is beyond a wall."""
    height, width = camera.size
    label, half, aspect = rng.integers(len(CLASSES)), np.exp(rng.uniform(np.log(0.13), np.log(0.6))), np.exp(rng.normal(0, 0.1))
    standing = len(room.stuff) > 1 and rng.random() < 0.55
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    yaw, pitch, roll = rng.uniform((-0.6, -0.4, -np.pi), (0.6, 0.4, np.pi))
    turn = room.tilt @ turned(y=yaw) @ (turned(z=roll / 16) if standing else turned(x=pitch) @ turned(z=roll))
    axes = np.column_stack([turn[:, 0] * half * aspect, turn[:, 1] * half / aspect, np.zeros(3)])
    if standing:
        slope = np.linalg.inv(camera.matrix @ room.axes[1])[2]
        y = (1 / depth - slope[0] * x - slope[2]) / slope[1]
        up = room.normals[1]
        points = outline(CLASSES[label])[0]
        axes[:, 2] = depth * camera.ray(x, y) - up * np.min(points @ (up @ axes[:, :2]))
    nearest = room.inverse_depth(camera.ray(x, y)).max()
    if not standing:
        depth = min(depth, 0.9 / nearest)
        axes[:, 2] = depth * camera.ray(x, y)
    beyond = standing and nearest > 1.001 / depth
    return None if beyond or axes[2, 2] - np.abs(axes[2, :2]).sum() < 0.5 * _NEAR else Thing(int(label), axes)


def move_camera(rng: Rng, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) from the first frame's coordinates to the second's; sometimes none."""
    pixels = _pace(rng, camera, still=0.12)
    chance = rng.standard_normal(6).clip(-2, 2)
    around = pixels * chance[:3] * (0.4 / camera.focal, 0.4 / camera.focal, 0.5 / max(camera.size))
    along = pixels * chance[3:] * (3.0, 2.0, 5.0) / camera.focal
    return turned(*around), along


def move_thing(rng: Rng, camera: Camera, axes: np.ndarray) -> np.ndarray:
    """The axes of a thing at the second frame: shifted, turned, nearer or farther; sometimes unchanged."""
    pixels = _pace(rng, camera, still=0.25)
    chance = rng.standard_normal(6).clip(-2, 2)
    depth = axes[2, 2]
    radius = np.linalg.norm(axes[:, 0]) * camera.focal / depth
    angle = min(pixels / radius, 0.3)
    moved = turned(*(angle * chance[:3] * (0.2, 0.2, 0.5))) @ axes
    moved[:, 2] = axes[:, 2] + chance[3:] * (pixels * depth / camera.focal, pixels * depth / camera.focal, 0.2 * angle * depth)
    return moved


def _pace(rng: Rng, camera: Camera, still: float) -> float:
    """How far something moves, in pixels: small paces are as frequent as large ones on a logarithmic scale."""
    moves, pixels = rng.random() >= still, np.exp(rng.uniform(np.log(0.25), np.log(13)))
    return moves * pixels * camera.scale
