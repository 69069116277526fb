"""A world seen by a camera: the picture, and which surface each pixel shows, at what depth.

Pixels see along the ray through their centre. What is nearest there is found by comparing inverse depths, which are
affine in the pixel's coordinates for a plane; so index and depth are exact, while the picture's edges are smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from densevision.data.scenes.shapes import CLASSES, GRID, depth_inside
from densevision.data.scenes.layout import STUFF
from densevision.data.scenes.world import EDGE, World

Box = tuple[int, int, int, int]

_BLEND = 0.3
_SHADE = 0.5
_SHADOW_REACH = 1.3
_SHADOW_GRID = 64
_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class Frame:
    """What one camera sees.

    Attributes:
        image: (H, W, 3) uint8 RGB, before lens and sensor.
        index: (H, W) uint8: the number of the surface at each pixel's centre.
        inverse: (H, W) float32: one over the depth there, in 1/metres.
    """

    image: np.ndarray
    index: np.ndarray
    inverse: np.ndarray


def render(world: World, view: int) -> Frame:
    """Paints the room, its shadows, and the things from far to near."""
    projections = world.projections(view)
    maps = np.linalg.inv(projections)
    height, width = world.camera.size
    index = np.zeros((height, width), np.uint8)
    inverse = np.zeros((height, width), np.float32)
    for number in range(world.planes):
        depth = _plane(maps[number, 2], (0, 0, width, height))
        index[depth > inverse] = number
        np.maximum(inverse, depth, out=inverse)
    image = np.zeros((height, width, 3), np.uint8)
    for number in range(world.planes):
        _paint_wall(image, world, number, maps[number], index, inverse)
    image = _shadowed(image, world, view, index)
    for number in range(world.planes, len(maps)):
        _paint_thing(image, index, inverse, world.cards[number - world.planes], number, projections[number], maps[number])
    return Frame(image, index, inverse)


def _paint_wall(image: np.ndarray, world: World, number: int, to_texels: np.ndarray, index: np.ndarray, inverse: np.ndarray) -> None:
    """Lays a wall's material, each pixel from the two levels nearest to its fineness, and paints it."""
    mask = (index == number).view(np.uint8)
    box = cv2.boundingRect(mask)
    x, y, width, height = box
    if not width:
        return
    part = np.s_[y : y + height, x : x + width]
    mask, material = mask[part], world.materials[number]
    level = _level(world, number, inverse[part])
    last = len(material.levels) - 1
    (least, _, _, _), (_, most, _, _) = cv2.minMaxLoc(level, mask), cv2.minMaxLoc(level, mask)
    first, final = (int(np.clip(np.floor(bound), 0, last)) for bound in (least + _BLEND, most + 1 - _BLEND))
    picture = _warp(material.levels[first], _scaled(to_texels, first), box, material.border)
    for coarse in range(first + 1, final + 1):
        share = np.clip((level - (coarse - 1 + _BLEND)) / (1 - 2 * _BLEND), 0, 1)
        coarser = _warp(material.levels[coarse], _scaled(to_texels, coarse), box, material.border)
        picture = cv2.blendLinear(picture, coarser, 1 - share, share)
    cv2.copyTo(cv2.transform(picture, world.paints[number]), mask, image[part])


def _level(world: World, number: int, inverse: np.ndarray) -> np.ndarray:
    """Level of detail: the logarithm of the texels per pixel, the geometric mean of across and along the slope."""
    axes = world.axes[0, number]
    texel = np.linalg.norm(axes[:, 0])
    distance = abs(np.linalg.det(axes)) / texel**2
    texels = 1 / (texel * world.camera.focal * np.sqrt(distance))
    return float(np.log2(texels)) - float(1.5 / np.log(2)) * cv2.log(inverse)


def _shadowed(image: np.ndarray, world: World, view: int, index: np.ndarray) -> np.ndarray:
    """Darkens the room where things keep the light away."""
    light = np.full(world.camera.size, 255, np.uint8)
    direction = world.light[view]
    for number in range(world.planes):
        a, b, origin = world.axes[view, number].T
        normal = np.cross(a, b)
        if abs(normal @ direction) < 0.1 * np.linalg.norm(normal):
            continue
        # Along the light onto the wall: X - direction * (normal . (X - origin)) / (normal . direction)
        along = np.outer(direction, normal) / (normal @ direction)
        for axes, label in zip(world.axes[view, world.planes :], world.labels[world.planes :]):
            cast = axes - along @ axes
            cast[:, 2] += along @ origin
            _cast(light, world.camera.matrix @ cast, _shadow(CLASSES[label - len(STUFF)]), index, number)
    return cv2.multiply(image, cv2.merge([light] * 3), scale=1 / 255)


def _cast(light: np.ndarray, projection: np.ndarray, shadow: np.ndarray, index: np.ndarray, number: int) -> None:
    box = _bounds(projection, _SHADOW_REACH, light.shape)
    if box is None:
        return
    x, y, width, height = box
    part = np.s_[y : y + height, x : x + width]
    dark = _warp(shadow, _gridded(np.linalg.inv(projection), _SHADOW_REACH, len(shadow)), box)
    dark[index[part] != number] = 0
    np.minimum(light[part], 255 - dark, out=light[part])


@cache
def _shadow(name: str) -> np.ndarray:
    """A shape's soft shadow over [-reach, reach], uint8."""
    inner = round(_SHADOW_GRID / _SHADOW_REACH)
    mask = cv2.resize((depth_inside(name) > 0).astype(np.float32), (inner, inner), interpolation=cv2.INTER_AREA)
    rim = (_SHADOW_GRID - inner) // 2
    mask = cv2.copyMakeBorder(mask, rim, _SHADOW_GRID - inner - rim, rim, _SHADOW_GRID - inner - rim, cv2.BORDER_CONSTANT)
    return np.uint8(cv2.GaussianBlur(mask, (0, 0), 2.0) * 255 * _SHADE)


def _paint_thing(image: np.ndarray, index: np.ndarray, inverse: np.ndarray, card: np.ndarray, number: int, projection: np.ndarray, to_card: np.ndarray) -> None:
    box = _bounds(projection, 1.0, index.shape)
    if box is None:
        return
    x, y, width, height = box
    part = np.s_[y : y + height, x : x + width]
    seen = _warp(card, _gridded(to_card, 1.0, len(card)), box)
    depth = _plane(to_card[2], box)
    nearer = depth > inverse[part]
    code = seen[..., 3]
    share = np.take(_coverage(projection, len(card)), code) * nearer
    image[part] = cv2.blendLinear(np.ascontiguousarray(seen[..., :3]), np.ascontiguousarray(image[part]), share, 1 - share)
    shown = nearer & (code >= 128)
    index[part][shown] = number
    inverse[part][shown] = depth[shown]


def _coverage(projection: np.ndarray, side: int) -> np.ndarray:
    """How much of a pixel a thing covers, by outline code, (256,) float32: a ramp one pixel wide about the outline."""
    corners = _corners(projection, 1.0)
    texels = side / max(1e-3, np.sqrt(cv2.contourArea(corners.astype(np.float32))))
    return np.clip((np.arange(256, dtype=np.float32) - 128) * np.float32(EDGE / 127 / texels) + 0.5, 0, 1)


def _corners(projection: np.ndarray, reach: float) -> np.ndarray | None:
    """The corners of the square [-reach, reach] in pixels, (4, 2); None where one is not in front of the camera."""
    corners = np.array([[-reach, -reach, 1], [reach, -reach, 1], [reach, reach, 1], [-reach, reach, 1]]) @ projection.T
    return corners[:, :2] / corners[:, 2:] if corners[:, 2].min() > 0.1 else None


def _bounds(projection: np.ndarray, reach: float, size: tuple[int, int]) -> Box | None:
    """The pixels (x, y, width, height) that a square can touch; None where there are none."""
    corners = _corners(projection, reach)
    if corners is None:
        return None
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)), size[::-1]).astype(int)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _plane(slopes: np.ndarray, box: Box) -> np.ndarray:
    """An affine function of the pixel coordinates over a box, at the centres, float32."""
    x, y, width, height = box
    across = slopes[0] * (np.arange(x, x + width) + 0.5) + slopes[2]
    down = slopes[1] * (np.arange(y, y + height) + 0.5)
    return across.astype(np.float32) + down.astype(np.float32)[:, None]


def _scaled(to_texels: np.ndarray, level: int) -> np.ndarray:
    return np.diag([0.5**level, 0.5**level, 1]) @ to_texels


def _gridded(to_square: np.ndarray, reach: float, side: int) -> np.ndarray:
    """From a map to [-reach, reach] one to the texels of a grid of that side."""
    half = side / 2
    return np.array([[half / reach, 0, half], [0, half / reach, half], [0, 0, 1]]) @ to_square


def _warp(picture: np.ndarray, to_texels: np.ndarray, box: Box, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """Samples a picture over a box of pixels; the map goes from pixel to texel coordinates."""
    x, y, width, height = box
    start = np.array([[1, 0, x + 0.5], [0, 1, y + 0.5], [0, 0, 1]])
    centred = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    return cv2.warpPerspective(picture, centred @ to_texels @ start, (width, height), flags=_LINEAR, borderMode=border)


def follow(world: World, source: int, seen: Frame, target: int, later: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's surface point is in another view.

    Args:
        world: What both views see.
        source: The view that `seen` was rendered for.
        seen: Its frame.
        target: The view that `later` was rendered for.
        later: Its frame.

    Returns:
        The displacement (2, H, W) float32 in pixels, and (H, W) bool: whether another surface hides the point there, or
        it lies outside the picture.
    """
    height, width = seen.index.shape
    back = np.linalg.inv(world.projections(target))
    onward = world.projections(target) @ np.linalg.inv(world.projections(source))
    x = np.arange(width, dtype=np.float32) + 0.5
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]

    def mapped(row: int) -> np.ndarray:
        a, b, c = (np.take(column, seen.index) for column in onward[:, row].T.astype(np.float32))
        return a * x + b * y + c

    depth_ratio = mapped(2)
    to_x, to_y = mapped(0) / depth_ratio, mapped(1) / depth_ratio
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    column, row = (np.clip(to, 0, side - 1).astype(np.intp) for to, side in ((to_x, width), (to_y, height)))
    other = later.index[row, column]
    a, b, c = (np.take(slopes, other) for slopes in back[:, 2].T.astype(np.float32))
    in_front = a * to_x + b * to_y + c > seen.inverse / depth_ratio * np.float32(1 + 1e-4)
    return np.stack([to_x - x, to_y - y]), ~inside | (in_front & (other != seen.index))
