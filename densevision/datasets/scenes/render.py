"""Renders a world: the image, and the surface and depth of each pixel.

The surface of a pixel is the nearest one on the ray through its center. Inverse depths of planes are affine in
pixel coordinates, so index and depth are exact; edges in the image are antialiased.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from densevision.datasets.scenes.projection import (
    Box,
    compute_areas,
    compute_bounds,
    compute_inverse_depth,
    map_to_grid,
    project_corners,
    to_slices,
    warp,
    warp_repeated,
)
from densevision.datasets.scenes.room import STUFF
from densevision.datasets.scenes.shapes import CLASSES, compute_signed_distance
from densevision.datasets.scenes.texture import Material
from densevision.datasets.scenes.world import EDGE, World

__all__ = ["Frame", "render"]

_BLEND = 0.3
_CORNER_SHADE = 0.32
_CORNER_SHADE_EXTENT = 0.05
_MAX_SHADOW = 0.5
_SHADOW_EXTENT = 1.3
_SHADOW_GRID = 64
_MIN_SHADOW_WIDTH = 8.0
_CODES = np.arange(256, dtype=np.float32) - 128


@dataclass(frozen=True)
class Frame:
    """A rendered view.

    Attributes:
        image: (H, W, 3) uint8 RGB, without blur and noise.
        index: (H, W) uint8, the surface at each pixel center.
        inverse: (H, W) float32, the inverse depth there in 1/meters.
    """

    image: np.ndarray
    index: np.ndarray
    inverse: np.ndarray


def render(world: World, view: int) -> Frame:
    """Renders the room, its shadows, and the objects from far to near.

    Args:
        world: The scene.
        view: LEFT, RIGHT or NEXT.
    """
    height, width = world.camera.size
    projections = world.projections(view)
    maps = np.linalg.inv(projections)
    index, inverse, behind = _render_room(maps[: world.planes], (height, width))
    image: np.ndarray = np.zeros((height, width, 3), np.uint8)
    for number in range(world.planes):
        _paint_wall(image, world, number, maps[number], index, inverse)
    light = _compute_light(world, view, index, inverse, behind)
    image = cv2.multiply(image, cv2.merge([light] * 3), scale=1 / 255)
    # Four channels, because OpenCV warps and blends them faster than three.
    frame = Frame(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), index, inverse)
    quads, in_front = project_corners(projections[world.planes :])
    boxes, across = compute_bounds(quads, (height, width)), np.sqrt(compute_areas(quads))
    for number in np.flatnonzero(in_front).tolist():
        item = number + world.planes
        _paint_object(frame, item, world.cards[number], maps[item], boxes[number], across[number])
    return Frame(cv2.cvtColor(frame.image, cv2.COLOR_RGBA2RGB), index, inverse)


def _render_room(maps: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the index and inverse depth of the visible wall, and the inverse depth of the next one behind it."""
    index, inverse, behind = np.zeros(size, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for number, to_wall in enumerate(maps):
        depth = compute_inverse_depth(to_wall, (0, 0, size[1], size[0]))
        _write_number(index, number, depth > inverse)
        np.maximum(behind, np.minimum(depth, inverse), out=behind)
        np.maximum(inverse, depth, out=inverse)
    return index, inverse, behind


def _write_number(index: np.ndarray, number: int, mask: np.ndarray) -> None:
    """Writes the index of a surface, which exceeds all indices written before, so that a maximum suffices."""
    np.maximum(index, mask.view(np.uint8) * np.uint8(number), out=index)


def _paint_wall(
    image: np.ndarray, world: World, number: int, to_texels: np.ndarray, index: np.ndarray, inverse: np.ndarray
) -> None:
    """Renders the painted material of a wall at the pixels that show it."""
    mask = index == number
    box = _compute_bounding_box(mask)
    if box[2] == 0:
        return
    mask, level = mask[to_slices(box)], _compute_level(world, number, inverse[to_slices(box)])
    pixels = cv2.cvtColor(_sample_levels(world.materials[number], to_texels, box, level, mask), cv2.COLOR_RGBA2RGB)
    cv2.copyTo(cv2.transform(pixels, world.paints[number]), mask.view(np.uint8), image[to_slices(box)])


def _compute_bounding_box(mask: np.ndarray) -> Box:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, width, height


def _sample_levels(
    material: Material, to_texels: np.ndarray, box: Box, level: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Samples a material at the masked pixels of a box, from the levels that match the size of each pixel."""
    low, high, _, _ = cv2.minMaxLoc(level, mask.view(np.uint8))
    last = len(material.levels) - 1
    first, final = (int(np.clip(np.floor(bound), 0, last)) for bound in (low + _BLEND, high + 1 - _BLEND))
    pixels = np.empty((*mask.shape, 4), np.uint8)
    for number in range(first, final + 1):
        # Between two levels the weight rises over the central part of the interval.
        start = number - 1 + _BLEND
        showing = mask if number == first else mask & (level > start)
        if number < final:
            showing = showing & (level < number + 1 - _BLEND)
        x, y, width, height = inner = _compute_bounding_box(showing)
        if width == 0:
            continue
        target, inner_box = to_slices(inner), (box[0] + x, box[1] + y, width, height)
        to_level = np.diag([0.5**number, 0.5**number, 1]) @ to_texels
        image = warp_repeated(material.levels[number], to_level, inner_box, material.border)
        if number > first:
            slope = 255 / (1 - 2 * _BLEND)
            share = cv2.convertScaleAbs(np.maximum(level[target], start), alpha=slope, beta=-slope * start)
            image = _blend(image, pixels[target], share)
        pixels[target] = image
    return pixels


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blends (H, W, 4) uint8 images with weight share / 255 of the first; twice as fast as `cv2.blendLinear`."""
    share = cv2.merge([share] * 4)
    return cv2.add(
        cv2.multiply(first, share, scale=1 / 255), cv2.multiply(second, cv2.bitwise_not(share), scale=1 / 255)
    )


def _compute_level(world: World, number: int, inverse: np.ndarray) -> np.ndarray:
    """Computes the level of detail: log2 of the texels per pixel, the geometric mean of both directions."""
    axes = world.axes[0, number]
    texel = np.linalg.norm(axes[:, 0])
    distance = abs(np.linalg.det(axes)) / texel**2
    texels = 1 / (texel * world.camera.focal * np.sqrt(distance))
    return float(np.log2(texels)) - float(1.5 / np.log(2)) * cv2.log(inverse)


def _compute_light(world: World, view: int, index: np.ndarray, inverse: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Computes the light on the room, (H, W) uint8: darker where walls meet, and in the shadows of objects.

    It is smooth and therefore computed at half the resolution.
    """
    index, inverse, behind = index[::2, ::2], inverse[::2, ::2], behind[::2, ::2]
    light = np.uint8(255 - 255 * _CORNER_SHADE * cv2.exp((behind / inverse - 1) * (1 / _CORNER_SHADE_EXTENT)))
    to_image = np.diag([0.5, 0.5, 1]) @ world.camera.matrix
    direction, items = world.light[view], world.axes[view, world.planes :]
    for number in range(world.planes):
        a, b, origin = world.axes[view, number].T
        normal = np.cross(a, b)
        if abs(normal @ direction) < 0.1 * np.linalg.norm(normal):
            continue
        # The shadow of a point X is X - direction * (normal . (X - origin)) / (normal . direction).
        along = np.outer(direction, normal) / (normal @ direction)
        shadows = items - along @ items
        shadows[:, :, 2] += along @ origin
        _darken(light, to_image @ shadows, world.labels[world.planes :], index == number)
    return cv2.resize(light, world.camera.size[::-1], interpolation=cv2.INTER_LINEAR)


def _darken(light: np.ndarray, projections: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> None:
    """Darkens a surface by the shadows of all objects, given by (N, 3, 3) projections."""
    quads, in_front = project_corners(projections, _SHADOW_EXTENT)
    # The shadow of a card that is edge-on to the light fades out before it becomes thinner than a pixel.
    strength = np.minimum(1, compute_areas(quads) / np.maximum(np.ptp(quads, axis=1).max(1), 1e-9) / _MIN_SHADOW_WIDTH)
    shown = mask.view(np.uint8)
    for number, box in enumerate(compute_bounds(quads, light.shape)):
        if not in_front[number] or not cv2.countNonZero(shown[to_slices(box)]):
            continue
        shadow = _build_shadow(CLASSES[labels[number] - len(STUFF)])
        dark = warp(shadow, map_to_grid(np.linalg.inv(projections[number]), len(shadow), _SHADOW_EXTENT), box)
        dark = cv2.multiply(dark, shown[to_slices(box)], scale=float(strength[number]))
        np.minimum(light[to_slices(box)], 255 - dark, out=light[to_slices(box)])


@cache
def _build_shadow(name: str) -> np.ndarray:
    """Builds the soft shadow of a shape over [-extent, extent], uint8."""
    inner = round(_SHADOW_GRID / _SHADOW_EXTENT)
    before, after = (_SHADOW_GRID - inner) // 2, (_SHADOW_GRID - inner + 1) // 2
    mask = cv2.resize(
        (compute_signed_distance(name) > 0).astype(np.float32), (inner, inner), interpolation=cv2.INTER_AREA
    )
    mask = cv2.copyMakeBorder(mask, before, after, before, after, cv2.BORDER_CONSTANT)
    return np.uint8(cv2.GaussianBlur(mask, (0, 0), 2.0) * (255 * _MAX_SHADOW))


def _paint_object(frame: Frame, number: int, card: np.ndarray, to_card: np.ndarray, box: Box, across: float) -> None:
    """Renders a card, about `across` pixels wide, where it is nearer than the frame so far."""
    if not (box[2] and box[3]):
        return
    image, index, inverse = frame.image[to_slices(box)], frame.index[to_slices(box)], frame.inverse[to_slices(box)]
    sampled = warp(card, map_to_grid(to_card, len(card)), box)
    depth = compute_inverse_depth(to_card, box)
    code = cv2.bitwise_and(cv2.extractChannel(sampled, 3), cv2.compare(depth, inverse, cv2.CMP_GT))
    share = cv2.LUT(code, _build_coverage_table(len(card) / max(across, 1e-3)))
    image[:] = cv2.blendLinear(sampled, image, share, 1 - share)
    shown = code >= 128
    _write_number(index, number, shown)
    cv2.copyTo(depth, shown.view(np.uint8), inverse)


def _build_coverage_table(texels: float) -> np.ndarray:
    """Builds the table (256,) float32 from outline code to coverage: a ramp one pixel wide at the outline."""
    table = np.clip(_CODES * np.float32(EDGE / 127 / texels) + np.float32(0.5), 0, 1)
    table[0] = 0  # outside the card, or occluded
    return table
