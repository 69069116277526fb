"""The content of a scene: surfaces in space, their textures, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.scenes.objects import SceneObject, move_camera, move_object, place_objects
from densevision.datasets.scenes.room import STUFF, Camera, Rng, Room, build_room
from densevision.datasets.scenes.shapes import CLASSES, compute_bevel, compute_signed_distance
from densevision.datasets.scenes.texture import Material, Materials, sample_object_paint, sample_room_paint

__all__ = ["EDGE", "LEFT", "NEXT", "RIGHT", "World", "build_world"]

LEFT, RIGHT, NEXT = range(3)
"""Views of a scene: the first frame of the left and right camera, and the second frame of the left camera."""

EDGE = 8.0
"""Distance from the outline in texels at which the outline code of a card saturates."""

_AMBIENT = 0.7
_EMPTY_PROBABILITY = 0.04
_MAX_OBJECTS = 12


@dataclass(frozen=True)
class World:
    """Surfaces: those of the room, then the objects from far to near.

    Attributes:
        camera: The stereo rig.
        axes: (3, S, 3, 3) float64, the axes of each surface in the camera coordinates of each view.
        light: (3, 3) float64, the direction in which the light travels in each view.
        labels: (S,) uint8 semantic labels: STUFF, then CLASSES.
        materials: Of the room's surfaces.
        paints: (P, 3, 4) float32, see `texture.sample_room_paint`.
        cards: (r, r, 4) uint8 for each object: RGB and the outline code, 128 on the outline, more inside.
        blur: Standard deviation of the lens blur in pixels.
        noise: Standard deviation of the sensor noise in gray levels.
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
        """Number of surfaces of the room."""
        return len(self.materials)

    def projections(self, view: int) -> np.ndarray:
        """Returns homographies (S, 3, 3) float64 from each surface's (u, v, 1) to pixel coordinates times depth."""
        return self.camera.matrix @ self.axes[view]


def build_world(rng: Rng, camera: Camera, materials: Materials) -> World:
    """Samples a world; about one in 25 has no object."""
    room = build_room(rng, camera)
    count = 0 if rng.random() < _EMPTY_PROBABILITY else int(rng.integers(1, _MAX_OBJECTS + 1))
    items = place_objects(rng, camera, room, count)
    axes, light = _compute_views(rng, camera, room, items)
    selected = [materials.sample(rng) for _ in room.axes]
    brightness = _AMBIENT + 0.45 * np.maximum(0, -room.normals @ room.light)
    paints = [sample_room_paint(rng, material, light) for material, light in zip(selected, brightness)]
    return World(
        camera=camera,
        axes=axes,
        light=light,
        labels=np.array([*room.stuff, *(len(STUFF) + item.label for item in items)], np.uint8),
        materials=tuple(selected),
        paints=np.stack(paints),
        cards=tuple(_build_card(rng, camera, item, room.light, materials) for item in items),
        blur=rng.uniform(0.3, 0.7) * min(1.0, camera.scale),
        noise=rng.uniform(0.5, 3.0),
    )


def _compute_views(rng: Rng, camera: Camera, room: Room, items: list[SceneObject]) -> tuple[np.ndarray, np.ndarray]:
    """Computes axes (3, S, 3, 3) and light (3, 3) in all views."""
    left = np.stack([*room.axes, *(item.axes for item in items)])
    right = left.copy()
    right[:, 0, 2] -= camera.baseline
    rotation, translation = move_camera(rng, camera)
    moved = [move_object(rng, camera, item.axes) for item in items]
    after = rotation @ np.stack([*room.axes, *moved])
    after[:, :, 2] += translation
    return np.stack([left, right, after]), np.stack([room.light, room.light, rotation @ room.light])


def _build_card(rng: Rng, camera: Camera, item: SceneObject, light: np.ndarray, materials: Materials) -> np.ndarray:
    """Renders the card of an object at about its resolution in the image: material, beveled border, and outline."""
    name, sides = CLASSES[item.label], item.axes[:, :2]
    lengths = np.linalg.norm(sides, axis=0)
    texels = int(np.clip(1.1 * 2 * lengths.max() * camera.focal / item.axes[2, 2], 12, 1024))
    material = materials.sample(rng)
    paint = sample_object_paint(rng, material, rng.uniform(0.85, 1.1))
    along, across = -70 * (light @ sides) / lengths
    shade = _resize(
        _to_bytes(cv2.addWeighted(compute_bevel(name)[0], along, compute_bevel(name)[1], across, 128)), texels
    )
    depth = _resize(compute_signed_distance(name), texels)
    painted = cv2.transform(cv2.cvtColor(_crop_randomly(rng, material.levels[0], texels), cv2.COLOR_RGBA2RGB), paint)
    card = cv2.cvtColor(cv2.multiply(painted, cv2.merge([shade] * 3), scale=1 / 128), cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(_to_bytes(depth, texels / 2 * 127 / EDGE, 128), card, 3)
    return card


def _to_bytes(field: np.ndarray, slope: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Computes slope * field + offset, rounded and saturated, for a positive slope; OpenCV alone would map -1 to 1."""
    return cv2.convertScaleAbs(np.maximum(field, -offset / slope), alpha=slope, beta=offset)


def _crop_randomly(rng: Rng, image: np.ndarray, texels: int) -> np.ndarray:
    """Crops a random square of a material and resizes it."""
    zoom, down, right = rng.random(3)
    length = int(np.clip(texels * (0.5 + 1.5 * zoom), 16, len(image)))
    top, left = (int(part * (len(image) - length + 1)) for part in (down, right))
    return _resize(image[top : top + length, left : left + length], texels)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
