"""Many pictures on one: batches with their labels, pictures beside truth and answer."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densevision.draw.canvas import canvas_of
from densevision.draw.colours import Colour
from densevision.draw.text import elided, line_height, width_of, write
from densevision.errors import UsageError

PAPER: Colour = (255, 255, 255)
INK: Colour = (50, 50, 50)
TALLEST = 1.5
"""Largest height of a picture on the sheet, in widths of its column."""


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    columns: int | None = None,
    width: int = 1600,
) -> np.ndarray:
    """Lays pictures out in rows and columns, each as large as its column allows, with captions below.

    Pictures of any size share the sheet; small ones are enlarged, and far enlarged ones show their pixels.

    Args:
        pictures: (H, W, 3) uint8 RGB each.
        captions: One line per picture, shortened where it is long; none or fewer than the pictures are fine.
        columns: Pictures in a row; about as many as rows when not given.
        width: Width of the sheet in pixels.

    Returns:
        (H, width, 3) uint8 RGB on white; a blank line of one pixel without pictures.

    Raises:
        DataError: A picture is not (H, W, 3) uint8.
        UsageError: The sheet is too narrow for its columns.
    """
    columns = max(1, columns or round(len(pictures) ** 0.5))
    gap = max(2, width // 160)
    column = (width - gap * (columns + 1)) // columns
    if column < 1:
        raise UsageError("the sheet is too narrow for its columns", value=width, mend="Widen it, or ask for fewer.")
    letters = max(10, min(width // 80, column // 12))
    below = line_height(letters) + gap // 2 if any(captions) else 0
    fitted = [_fitted(canvas_of(picture), column) for picture in pictures]
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    heights = [max(len(picture) for picture in row) for row in rows]
    sheet = np.full((sum(heights) + len(rows) * (below + gap) + gap if rows else 1, width, 3), PAPER, np.uint8)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights)):
        for place, picture in enumerate(row):
            left = gap + place * (column + gap)
            x, y = left + (column - picture.shape[1]) // 2, top + (height - picture.shape[0]) // 2
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            index = number * columns + place
            if index < len(captions):
                text = elided(captions[index], letters, column)
                start = left + (column - width_of(text, letters)) // 2
                write(sheet, text, (start, top + height + gap // 4), letters, INK)
        top += height + below + gap
    return sheet


def _fitted(picture: np.ndarray, column: int) -> np.ndarray:
    """The picture at the size at which it fills its column, or is as tall as a picture may be."""
    height, width = picture.shape[:2]
    scale = min(column / width, TALLEST * column / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_CUBIC)
