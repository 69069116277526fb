"""Labels that find their own place beside what they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densevision.draw.canvas import letter_size, line_width
from densevision.draw.colors import Color, text_color
from densevision.draw.text import elided, line_height, width_of, write

WIDEST = 0.45
"""The longest label, as a part of the image's width; longer names end in an ellipsis."""
ENOUGH = 0.2
"""Part of the image that labels may cover together; the objects of least weight go without beyond it."""


@dataclass(frozen=True)
class Tag:
    """What is written beside an object.

    Attributes:
        name: What it is; shortened where it is long.
        value: What stays whole after the name, such as a score; may be empty.
        color: RGB of the plate.
        box: The object, xyxy in pixels.
        weight: Those of higher weight choose their place first.
    """

    name: str
    value: str
    color: Color
    box: tuple[float, float, float, float]
    weight: float = 1.0


def write_tags(canvas: np.ndarray, tags: Sequence[Tag]) -> None:
    """Writes tags onto an (H, W, 3) uint8 image, in place: inside it, over no other tag, and hiding little.

    A tag for which there is no such place is left out. So are those of least weight where a fifth of the image is
    covered already, and all of them on an image that has no room for letters.
    """
    size = canvas.shape[:2]
    letters = letter_size(size, len(tags))
    margin = max(2, letters // 3)
    height = line_height(letters)
    if height * 4 > size[0] or not tags:
        return
    boxes = _grown(np.asarray([tag.box for tag in tags], np.float64), line_width(size) / 2)
    longest = min(size[1] - 2 * margin, max(WIDEST * size[1], 12 * letters))
    placed = np.empty((0, 4), int)
    for row in sorted(range(len(tags)), key=lambda row: -tags[row].weight):
        if _areas(placed).sum() > ENOUGH * size[0] * size[1]:
            break
        tag = tags[row]
        text = _fitted(tag, letters, longest)
        extent = min(width_of(text, letters) + 2 * margin, size[1]), height
        plate = _place(_places(boxes[row], extent, size), boxes, placed) if text else None
        if plate is None:
            continue
        placed = np.concatenate([placed, plate[None]])
        x1, y1, x2, y2 = plate.tolist()
        canvas[y1:y2, x1:x2] = tag.color
        write(canvas, text, (x1 + margin, y1), letters, text_color(tag.color))


def _fitted(tag: Tag, letters: int, longest: float) -> str:
    """Name and value in a line of at most `longest` pixels: all, or a long name's beginning, or a short one alone."""
    value = f" {tag.value}" if tag.value else ""
    name = elided(tag.name, letters, longest - width_of(value, letters))
    if len(name) >= min(8, len(tag.name)):
        return name + value
    name = elided(tag.name, letters, longest)
    return name if len(name) >= min(4, len(tag.name)) else ""


def _places(box: np.ndarray, extent: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Plates of an (width, height) extent around and in a box, shifted into the image: (P, 4) xyxy, best first."""
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


def _place(places: np.ndarray, boxes: np.ndarray, placed: np.ndarray) -> np.ndarray | None:
    """The place that covers no plate and hides least of the objects, each as a part of itself; none if all cover."""
    hidden = (_shared(places, boxes) / _areas(boxes).clip(1)).sum(1)
    # Earlier places read better, so that a later one must spare a good part of an object to be taken.
    cost = hidden + 0.05 * np.arange(len(places)) + np.where(_shared(places, placed).any(1), np.inf, 0)
    best = int(cost.argmin())
    return places[best] if np.isfinite(cost[best]) else None


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Areas that (A, 4) and (B, 4) boxes share, (A, B)."""
    starts = np.maximum(first[:, None, :2], second[None, :, :2])
    return (np.minimum(first[:, None, 2:], second[None, :, 2:]) - starts).clip(0).prod(2)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _grown(boxes: np.ndarray, margin: float) -> np.ndarray:
    return boxes + np.asarray((-margin, -margin, margin, margin))
