"""Labels that find their own place beside what they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densevision.draw.canvas import letter_size, line_width
from densevision.draw.colours import Colour, text_colour
from densevision.draw.text import elided, line_height, width_of, write

COVERED = 0.15
"""A label that would share more than this part of its plate with plates already placed is left out."""
WIDEST = 0.45
"""The longest label, as a part of the picture's width; longer names end in an ellipsis."""


@dataclass(frozen=True)
class Tag:
    """What is written beside an object.

    Attributes:
        name: What it is; shortened where it is long.
        value: What stays whole after the name, such as a score; may be empty.
        colour: RGB of the plate.
        box: The object, xyxy in pixels.
        weight: Those of higher weight choose their place first.
    """

    name: str
    value: str
    colour: Colour
    box: tuple[float, float, float, float]
    weight: float = 1.0


def write_tags(canvas: np.ndarray, tags: Sequence[Tag]) -> None:
    """Writes tags onto an (H, W, 3) uint8 picture, in place, so that they stay inside and cover no other.

    A tag for which there is no such place is left out, as are all of them on a picture that has no room for letters.
    """
    size = canvas.shape[:2]
    letters = letter_size(size, len(tags))
    margin = max(2, letters // 3)
    height = line_height(letters)
    if height * 4 > size[0]:
        return
    placed = np.empty((0, 4))
    for tag in sorted(tags, key=lambda tag: -tag.weight):
        text = _fitted(tag, letters, size[1] * WIDEST)
        extent = width_of(text, letters) + 2 * margin, height
        corner = _place(tag.box, extent, placed, size, line_width(size)) if text else None
        if corner is None:
            continue
        x, y = corner
        placed = np.concatenate([placed, [(x, y, x + extent[0], y + extent[1])]])
        canvas[y : y + height, x : x + extent[0]] = tag.colour
        write(canvas, text, (x + margin, y), letters, text_colour(tag.colour))


def _fitted(tag: Tag, letters: int, width: float) -> str:
    """Name and value in one line of at most `width` pixels; empty where not even a few letters of the name fit."""
    value = f" {tag.value}" if tag.value else ""
    name = elided(tag.name, letters, width - width_of(value, letters))
    return name + value if len(name) >= min(3, len(tag.name)) else ""


def _place(
    box: Sequence[float], extent: tuple[int, int], placed: np.ndarray, size: tuple[int, int], line: int
) -> tuple[int, int] | None:
    """The top-left corner of the plate: the first place around the box that is free, else the freest, else none."""
    width, height = extent
    outside = line / 2
    x1, y1, x2, y2 = box[0] - outside, box[1] - outside, box[2] + outside, box[3] + outside
    left, right, middle = x1, x2 - width, (x1 + x2 - width) / 2
    above, below = y1 - height, y2
    places = [
        *((x, above) for x in (left, right)),
        *((x, y1) for x in (left, right)),
        *((x, below) for x in (left, right)),
        *((x, y2 - height) for x in (left, right)),
        *((x, y) for y in (above, y1, below) for x in (middle,)),
        *((x, y) for y in (y1, (y1 + y2 - height) / 2, y2 - height) for x in (x2, x1 - width)),
    ]
    corners = np.rint(places).clip(0, (size[1] - width, size[0] - height))
    ends = corners + extent
    shared = (np.minimum(ends[:, None], placed[None, :, 2:]) - np.maximum(corners[:, None], placed[None, :, :2])).clip(0)
    covered = shared.prod(2).sum(1)
    best = int(covered.argmin())
    if covered[best] > COVERED * width * height:
        return None
    return int(corners[best, 0]), int(corners[best, 1])
