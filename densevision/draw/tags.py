"""Labels of objects, placed where they overlap no other label and hide little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densevision.draw.canvas import compute_font_size, compute_line_width
from densevision.draw.colors import Color, choose_text_color
from densevision.draw.text import compute_line_height, draw_text, measure_text_width, shorten_text

__all__ = ["Tag", "draw_tags"]

MAX_WIDTH_FRACTION = 0.45
"""Maximum width of a tag as a fraction of the image width; longer names are shortened."""
MAX_COVERED_FRACTION = 0.2
"""Fraction of the image that tags may cover in total; beyond it, objects of lowest weight get no tag."""


@dataclass(frozen=True)
class Tag:
    """The label of an object.

    Attributes:
        name: Name, which is shortened if it is long.
        value: Text after the name that is never shortened, such as a score; may be empty.
        color: Background, RGB.
        box: The object, xyxy in pixels.
        weight: Tags of higher weight are placed first.
    """

    name: str
    value: str
    color: Color
    box: tuple[float, float, float, float]
    weight: float = 1.0


def draw_tags(canvas: np.ndarray, tags: Sequence[Tag]) -> None:
    """Draws tags onto an (H, W, 3) uint8 image, in place: inside it, without overlaps, and hiding little.

    A tag without such a place is omitted. So are those of lowest weight once `MAX_COVERED_FRACTION` of the image is
    covered, and all tags on an image that is too small for text.
    """
    size = canvas.shape[:2]
    font_size = compute_font_size(size, len(tags))
    margin = max(2, font_size // 3)
    height = compute_line_height(font_size)
    if height * 4 > size[0] or not tags:
        return
    boxes = _expand_boxes(np.asarray([tag.box for tag in tags], np.float64), compute_line_width(size) / 2)
    max_width = min(size[1] - 2 * margin, max(MAX_WIDTH_FRACTION * size[1], 12 * font_size))
    placed = np.empty((0, 4), int)
    for row in sorted(range(len(tags)), key=lambda row: -tags[row].weight):
        if _compute_areas(placed).sum() > MAX_COVERED_FRACTION * size[0] * size[1]:
            break
        tag = tags[row]
        text = _fit_text(tag, font_size, max_width)
        if not text:
            continue
        extent = min(measure_text_width(text, font_size) + 2 * margin, size[1]), height
        background = _choose_place(_list_places(boxes[row], extent, size), boxes, placed)
        if background is None:
            continue
        placed = np.concatenate([placed, background[None]])
        x1, y1, x2, y2 = background.tolist()
        canvas[y1:y2, x1:x2] = tag.color
        draw_text(canvas, text, (x1 + margin, y1), font_size, choose_text_color(tag.color))


def _fit_text(tag: Tag, font_size: int, max_width: float) -> str:
    """Name and value in at most `max_width` pixels: shortens the name, or omits the value of a narrow tag."""
    value = f" {tag.value}" if tag.value else ""
    name = shorten_text(tag.name, font_size, max_width - measure_text_width(value, font_size))
    if len(name) >= min(8, len(tag.name)):
        return name + value
    name = shorten_text(tag.name, font_size, max_width)
    return name if len(name) >= min(4, len(tag.name)) else ""


def _list_places(box: np.ndarray, extent: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Places of a (width, height) extent around and in a box, moved into the image: (P, 4) xyxy, best first."""
    width, height = extent
    x1, y1, x2, y2 = box
    left, right, middle = x1, x2 - width, (x1 + x2 - width) / 2
    above, below = y1 - height, y2
    corners = [
        *((x, y) for y in (above, y1, below, y2 - height) for x in (left, right, middle)),
        *((x, y) for y in (y1, (y1 + y2 - height) / 2, y2 - height) for x in (x2, x1 - width)),
    ]
    inside = np.rint(corners).clip(0, (size[1] - width, size[0] - height)).astype(int)
    return np.concatenate([inside, inside + extent], 1)


def _choose_place(places: np.ndarray, boxes: np.ndarray, placed: np.ndarray) -> np.ndarray | None:
    """The place that overlaps no other tag and hides the smallest fractions of objects; None if all overlap."""
    hidden = (_compute_intersections(places, boxes) / _compute_areas(boxes).clip(1)).sum(1)
    overlaps = _compute_intersections(places, placed).any(1)
    # Earlier places read better, so a later one must hide much less to be chosen.
    cost = hidden + 0.05 * np.arange(len(places)) + np.where(overlaps, np.inf, 0)
    best = int(cost.argmin())
    return places[best] if np.isfinite(cost[best]) else None


def _compute_intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Areas of the intersections of (A, 4) and (B, 4) boxes, (A, B)."""
    starts = np.maximum(first[:, None, :2], second[None, :, :2])
    return (np.minimum(first[:, None, 2:], second[None, :, 2:]) - starts).clip(0).prod(2)


def _compute_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _expand_boxes(boxes: np.ndarray, margin: float) -> np.ndarray:
    return boxes + np.asarray((-margin, -margin, margin, margin))
