"""Many images on one: batches with their labels, images beside truth and answer."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densevision.draw.canvas import canvas_of
from densevision.draw.colors import Color
from densevision.draw.text import elided, line_height, width_of, write
from densevision.errors import UsageError

PAPER: Color = (255, 255, 255)
INK: Color = (50, 50, 50)
TALLEST = 1.5
"""Largest height of an image on the sheet, in widths of its column."""


def contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    columns: int | None = None,
    width: int = 1600,
) -> np.ndarray:
    """Lays images out in rows and columns, each as large as its column allows, with captions below.

    Images of any size share the sheet; small ones are enlarged, and far enlarged ones show their pixels.

    Args:
        images: (H, W, 3) uint8 RGB each.
        captions: One line per image, shortened where it is long; none or fewer than the images are fine.
        columns: Images in a row; about as many as rows when not given.
        width: Width of the sheet in pixels.

    Returns:
        (H, width, 3) uint8 RGB on white; a blank line of one pixel without images.

    Raises:
        DataError: An image is not (H, W, 3) uint8.
        UsageError: The sheet is too narrow for its columns.
    """
    columns = max(1, columns or round(len(images) ** 0.5))
    gap = max(2, width // 160)
    column = (width - gap * (columns + 1)) // columns
    if column < 1:
        raise UsageError("the sheet is too narrow for its columns", value=width, hint="Widen it, or ask for fewer.")
    letters = max(10, min(width // 80, column // 12))
    below = line_height(letters) + gap // 2 if any(captions) else 0
    fitted = [_fitted(canvas_of(image), column) for image in images]
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    heights = [max(len(image) for image in row) for row in rows]
    sheet = np.full((sum(heights) + len(rows) * (below + gap) + gap if rows else 1, width, 3), PAPER, np.uint8)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights)):
        for place, image in enumerate(row):
            left = gap + place * (column + gap)
            x, y = left + (column - image.shape[1]) // 2, top + (height - image.shape[0]) // 2
            sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
            index = number * columns + place
            if index < len(captions):
                text = elided(captions[index], letters, column)
                start = left + (column - width_of(text, letters)) // 2
                write(sheet, text, (start, top + height + gap // 4), letters, INK)
        top += height + below + gap
    return sheet


def _fitted(image: np.ndarray, column: int) -> np.ndarray:
    """The image at the size at which it fills its column, or is as tall as an image may be."""
    height, width = image.shape[:2]
    scale = min(column / width, TALLEST * column / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_CUBIC)
