"""One scene before it is seen: surfaces in space, what covers them, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.scenes.objects import Thing, move_camera, move_thing, place_things
from densevision.datasets.scenes.room import STUFF, Camera, Rng, Room, build_room
from densevision.datasets.scenes.shapes import CLASSES, bevel, depth_inside
from densevision.datasets.scenes.texture import Material, Materials, room_paint, thing_paint

LEFT, RIGHT, NEXT = range(3)
"""The views of a scene: the first frame of the left and of the right camera, and the left one's second frame."""

EDGE = 8.0
"""Texels from a thing's outline at which the outline code of its card saturates."""

_AMBIENT = 0.7
_EMPTY = 0.04
_MOST = 12


@dataclass(frozen=True)
class World:
    """Surfaces, the room's first, then the things from far to near.

    Attributes:
        camera: The rig.
        axes: (3, S, 3, 3) float64: for each view, the axes of each surface in that view's camera coordinates.
        light: (3, 3) float64: for each view, the direction in which the light travels.
        labels: (S,) uint8 semantic labels: STUFF, then CLASSES.
        materials: What covers the room's surfaces.
        paints: (P, 3, 4) float32, see `texture.room_paint`.
        cards: (r, r, 4) uint8 for each thing: RGB and the outline code, 128 on the outline, more inside.
        blur: Deviation of the lens' blur, in pixels.
        noise: Deviation of the sensor's noise, in gray levels.
    """

    camera: Camera
    axes: np.ndarray
    light: np.ndarray
    labels: np.ndarray
    materials: tuple[Material, ...]
    paints: np.ndarray
    cards: tuple[np.ndarray, ...]
    blur: float
    noise: float

    @property
    def planes(self) -> int:
        """Number of the room's surfaces."""
        return len(self.materials)

    def projections(self, view: int) -> np.ndarray:
        """Homographies from each surface's (u, v, 1) to pixel coordinates times depth, (S, 3, 3) float64."""
        return self.camera.matrix @ self.axes[view]


def build_world(rng: Rng, camera: Camera, materials: Materials) -> World:
    """Draws a world by chance; about one in 25 holds no thing."""
    room = build_room(rng, camera)
    count = 0 if rng.random() < _EMPTY else int(rng.integers(1, _MOST + 1))
    things = place_things(rng, camera, room, count)
    axes, light = _in_each_view(rng, camera, room, things)
    picked = [materials.pick(rng) for _ in room.axes]
    brightness = _AMBIENT + 0.45 * np.maximum(0, -room.normals @ room.light)
    paints = [room_paint(rng, material, light) for material, light in zip(picked, brightness)]
    return World(
        camera=camera,
        axes=axes,
        light=light,
        labels=np.array([*room.stuff, *(len(STUFF) + thing.label for thing in things)], np.uint8),
        materials=tuple(picked),
        paints=np.stack(paints),
        cards=tuple(_card(rng, camera, thing, room.light, materials) for thing in things),
        blur=rng.uniform(0.3, 0.7) * min(1.0, camera.scale),
        noise=rng.uniform(0.5, 3.0),
    )


def _in_each_view(rng: Rng, camera: Camera, room: Room, things: list[Thing]) -> tuple[np.ndarray, np.ndarray]:
    """Axes (3, S, 3, 3) and light (3, 3) in the left, the right and the next view."""
    left = np.stack([*room.axes, *(thing.axes for thing in things)])
    right = left.copy()
    right[:, 0, 2] -= camera.baseline
    rotation, translation = move_camera(rng, camera)
    moved = [move_thing(rng, camera, thing.axes) for thing in things]
    after = rotation @ np.stack([*room.axes, *moved])
    after[:, :, 2] += translation
    return np.stack([left, right, after]), np.stack([room.light, room.light, rotation @ room.light])


def _card(rng: Rng, camera: Camera, thing: Thing, light: np.ndarray, materials: Materials) -> np.ndarray:
    """A thing's image, about as fine as it will be seen: its painted material, its lit rim, its outline."""
    name, sides = CLASSES[thing.label], thing.axes[:, :2]
    lengths = np.linalg.norm(sides, axis=0)
    texels = int(np.clip(1.1 * 2 * lengths.max() * camera.focal / thing.axes[2, 2], 12, 1024))
    material = materials.pick(rng)
    paint = thing_paint(rng, material, rng.uniform(0.85, 1.1))
    along, across = -70 * (light @ sides) / lengths
    shade = _resized(_in_bytes(cv2.addWeighted(bevel(name)[0], along, bevel(name)[1], across, 128)), texels)
    depth = _resized(depth_inside(name), texels)
    painted = cv2.transform(cv2.cvtColor(_cut(rng, material.levels[0], texels), cv2.COLOR_RGBA2RGB), paint)
    card = cv2.cvtColor(cv2.multiply(painted, cv2.merge([shade] * 3), scale=1 / 128), cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(_in_bytes(depth, texels / 2 * 127 / EDGE, 128), card, 3)
    return card


def _in_bytes(field: np.ndarray, slope: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """slope * field + offset for a slope above 0, rounded and saturated; OpenCV's fast sum would take -1 for 1."""
    return cv2.convertScaleAbs(np.maximum(field, -offset / slope), alpha=slope, beta=offset)


def _cut(rng: Rng, image: np.ndarray, texels: int) -> np.ndarray:
    """A random square of a material, drawn to size."""
    zoom, down, right = rng.random(3)
    length = int(np.clip(texels * (0.5 + 1.5 * zoom), 16, len(image)))
    top, left = (int(part * (len(image) - length + 1)) for part in (down, right))
    return _resized(image[top : top + length, left : left + length], texels)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
