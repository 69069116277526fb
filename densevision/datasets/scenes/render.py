"""A world seen by a camera: the image, and which surface each pixel shows, at what depth.

Pixels see along the ray through their center. What is nearest there is found by comparing inverse depths, which are
affine in the pixel's coordinates for a plane; so index and depth are exact, while the image's edges are smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from densevision.datasets.scenes.projection import (
    Box,
    areas,
    bounds,
    corners,
    inverse_depth,
    on_grid,
    part,
    warp,
    warp_repeated,
)
from densevision.datasets.scenes.room import STUFF
from densevision.datasets.scenes.shapes import CLASSES, depth_inside
from densevision.datasets.scenes.texture import Material
from densevision.datasets.scenes.world import EDGE, World

_BLEND = 0.3
_GLOOM = 0.32
_GLOOM_REACH = 0.05
_DARKEST = 0.5
_SHADOW_REACH = 1.3
_SHADOW_GRID = 64
_THIN = 8.0
_CODES = np.arange(256, dtype=np.float32) - 128


@dataclass(frozen=True)
class Frame:
    """What one camera sees.

    Attributes:
        image: (H, W, 3) uint8 RGB, before lens and sensor.
        index: (H, W) uint8: the number of the surface at each pixel's center.
        inverse: (H, W) float32: one over the depth there, in 1/meters.
    """

    image: np.ndarray
    index: np.ndarray
    inverse: np.ndarray


def render(world: World, view: int) -> Frame:
    """Paints the room, its shadows, and the things from far to near.

    Args:
        world: What there is to see.
        view: LEFT, RIGHT or NEXT.
    """
    height, width = world.camera.size
    projections = world.projections(view)
    maps = np.linalg.inv(projections)
    index, inverse, behind = _room(maps[: world.planes], (height, width))
    image = np.zeros((height, width, 3), np.uint8)
    for number in range(world.planes):
        _paint_wall(image, world, number, maps[number], index, inverse)
    light = _light(world, view, index, inverse, behind)
    image = cv2.multiply(image, cv2.merge([light] * 3), scale=1 / 255)
    # Four channels, because OpenCV warps and blends them faster than three.
    frame = Frame(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), index, inverse)
    quads, in_front = corners(projections[world.planes :])
    boxes, across = bounds(quads, (height, width)), np.sqrt(areas(quads))
    for number in np.flatnonzero(in_front):
        thing = number + world.planes
        _paint_thing(frame, thing, world.cards[number], maps[thing], boxes[number], across[number])
    return Frame(cv2.cvtColor(frame.image, cv2.COLOR_RGBA2RGB), index, inverse)


def _room(maps: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number and the inverse depth of the wall that is seen, and the inverse depth of the next one behind it."""
    index, inverse, behind = np.zeros(size, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for number, to_wall in enumerate(maps):
        depth = inverse_depth(to_wall, (0, 0, size[1], size[0]))
        _number(index, number, depth > inverse)
        np.maximum(behind, np.minimum(depth, inverse), out=behind)
        np.maximum(inverse, depth, out=inverse)
    return index, inverse, behind


def _number(index: np.ndarray, number: int, where: np.ndarray) -> None:
    """Writes a surface's number, which is above all that were written before it: so no branch is needed per pixel."""
    np.maximum(index, where.view(np.uint8) * np.uint8(number), out=index)


def _paint_wall(
    image: np.ndarray, world: World, number: int, to_texels: np.ndarray, index: np.ndarray, inverse: np.ndarray
) -> None:
    """Lays a wall's material over the pixels that show it, and paints it."""
    mask = index == number
    box = cv2.boundingRect(mask.view(np.uint8))
    if box[2] == 0:
        return
    mask, level = mask[part(box)], _level(world, number, inverse[part(box)])
    laid = cv2.cvtColor(_lay(world.materials[number], to_texels, box, level, mask), cv2.COLOR_RGBA2RGB)
    cv2.copyTo(cv2.transform(laid, world.paints[number]), mask.view(np.uint8), image[part(box)])


def _lay(material: Material, to_texels: np.ndarray, box: Box, level: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A box of pixels, each in the mask taken from the levels of the material that are about as fine as itself."""
    least, most, _, _ = cv2.minMaxLoc(level, mask.view(np.uint8))
    last = len(material.levels) - 1
    first, final = (int(np.clip(np.floor(bound), 0, last)) for bound in (least + _BLEND, most + 1 - _BLEND))
    laid = np.empty((*mask.shape, 4), np.uint8)
    for number in range(first, final + 1):
        # From one level to the next the share rises over the middle part of the way.
        start = number - 1 + _BLEND
        showing = mask if number == first else mask & (level > start)
        if number < final:
            showing = showing & (level < number + 1 - _BLEND)
        x, y, width, height = inner = cv2.boundingRect(showing.view(np.uint8))
        if width == 0:
            continue
        where, there = part(inner), (box[0] + x, box[1] + y, width, height)
        to_level = np.diag([0.5**number, 0.5**number, 1]) @ to_texels
        image = warp_repeated(material.levels[number], to_level, there, material.border)
        if number > first:
            slope = 255 / (1 - 2 * _BLEND)
            share = cv2.convertScaleAbs(np.maximum(level[where], start), alpha=slope, beta=-slope * start)
            image = _blended(image, laid[where], share)
        laid[where] = image
    return laid


def _blended(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """share / 255 of one (H, W, 4) image and the rest of another, in bytes: twice as fast as `cv2.blendLinear`."""
    share = cv2.merge([share] * 4)
    return cv2.add(cv2.multiply(one, share, scale=1 / 255), cv2.multiply(other, cv2.bitwise_not(share), scale=1 / 255))


def _level(world: World, number: int, inverse: np.ndarray) -> np.ndarray:
    """Level of detail: the logarithm of the texels per pixel, the geometric mean of across and along the slope."""
    axes = world.axes[0, number]
    texel = np.linalg.norm(axes[:, 0])
    distance = abs(np.linalg.det(axes)) / texel**2
    texels = 1 / (texel * world.camera.focal * np.sqrt(distance))
    return float(np.log2(texels)) - float(1.5 / np.log(2)) * cv2.log(inverse)


def _light(world: World, view: int, index: np.ndarray, inverse: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """How much light reaches the room, (H, W) uint8: less where walls meet and where things keep it away.

    Computed at half the resolution, for it is smooth.
    """
    index, inverse, behind = index[::2, ::2], inverse[::2, ::2], behind[::2, ::2]
    light = np.uint8(255 - 255 * _GLOOM * cv2.exp((behind / inverse - 1) * (1 / _GLOOM_REACH)))
    to_image = np.diag([0.5, 0.5, 1]) @ world.camera.matrix
    direction, things = world.light[view], world.axes[view, world.planes :]
    for number in range(world.planes):
        a, b, origin = world.axes[view, number].T
        normal = np.cross(a, b)
        if abs(normal @ direction) < 0.1 * np.linalg.norm(normal):
            continue
        # A point X falls along the light onto X - direction * (normal . (X - origin)) / (normal . direction).
        along = np.outer(direction, normal) / (normal @ direction)
        fallen = things - along @ things
        fallen[:, :, 2] += along @ origin
        _darken(light, to_image @ fallen, world.labels[world.planes :], index == number)
    return cv2.resize(light, world.camera.size[::-1], interpolation=cv2.INTER_LINEAR)


def _darken(light: np.ndarray, projections: np.ndarray, labels: np.ndarray, where: np.ndarray) -> None:
    """Lays the shadows of all things, (N, 3, 3) projections, over one surface."""
    quads, in_front = corners(projections, _SHADOW_REACH)
    # The shadow of a card seen edge-on by the light fades out before it becomes thinner than a pixel.
    strength = np.minimum(1, areas(quads) / np.maximum(np.ptp(quads, axis=1).max(1), 1e-9) / _THIN)
    shown = where.view(np.uint8)
    for number, box in enumerate(bounds(quads, light.shape)):
        if not in_front[number] or not cv2.countNonZero(shown[part(box)]):
            continue
        shadow = _shadow(CLASSES[labels[number] - len(STUFF)])
        dark = warp(shadow, on_grid(np.linalg.inv(projections[number]), len(shadow), _SHADOW_REACH), box)
        dark = cv2.multiply(dark, shown[part(box)], scale=float(strength[number]))
        np.minimum(light[part(box)], 255 - dark, out=light[part(box)])


@cache
def _shadow(name: str) -> np.ndarray:
    """How much a shape's soft shadow takes away over [-reach, reach], uint8."""
    inner = round(_SHADOW_GRID / _SHADOW_REACH)
    rim, rest = (_SHADOW_GRID - inner) // 2, (_SHADOW_GRID - inner + 1) // 2
    mask = cv2.resize((depth_inside(name) > 0).astype(np.float32), (inner, inner), interpolation=cv2.INTER_AREA)
    mask = cv2.copyMakeBorder(mask, rim, rest, rim, rest, cv2.BORDER_CONSTANT)
    return np.uint8(cv2.GaussianBlur(mask, (0, 0), 2.0) * (255 * _DARKEST))


def _paint_thing(frame: Frame, number: int, card: np.ndarray, to_card: np.ndarray, box: Box, across: float) -> None:
    """Lays a card, about `across` pixels wide, over the frame where it is nearer than what is there."""
    if not (box[2] and box[3]):
        return
    image, index, inverse = frame.image[part(box)], frame.index[part(box)], frame.inverse[part(box)]
    seen = warp(card, on_grid(to_card, len(card)), box)
    depth = inverse_depth(to_card, box)
    code = cv2.bitwise_and(cv2.extractChannel(seen, 3), cv2.compare(depth, inverse, cv2.CMP_GT))
    share = cv2.LUT(code, _coverage(len(card) / max(across, 1e-3)))
    image[:] = cv2.blendLinear(seen, image, share, 1 - share)
    shown = code >= 128
    _number(index, number, shown)
    cv2.copyTo(depth, shown.view(np.uint8), inverse)


def _coverage(texels: float) -> np.ndarray:
    """How much of a pixel a thing covers, by outline code, (256,) float32: a ramp one pixel wide about the outline."""
    table = np.clip(_CODES * np.float32(EDGE / 127 / texels) + np.float32(0.5), 0, 1)
    table[0] = 0  # beyond the card, or behind something
    return table
