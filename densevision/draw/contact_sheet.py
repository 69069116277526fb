"""Contact sheets: many images with captions in one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densevision.draw.canvas import copy_canvas
from densevision.draw.colors import Color
from densevision.draw.text import compute_line_height, draw_text, measure_text_width, shorten_text
from densevision.errors import UsageError

__all__ = ["make_contact_sheet"]

BACKGROUND: Color = (255, 255, 255)
TEXT_COLOR: Color = (50, 50, 50)
MAX_ASPECT = 1.5
"""Maximum height of an image on the sheet, in widths of its column."""


def make_contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    columns: int | None = None,
    width: int = 1600,
) -> np.ndarray:
    """Arranges images in rows and columns, each as large as its column allows, with captions below.

    The images may have any sizes; small ones are enlarged, beyond a factor of 4 without smoothing.

    Args:
        images: (H, W, 3) uint8 RGB each.
        captions: One line per image, shortened if it is long; there may be fewer captions than images.
        columns: Images per row; by default about as many as rows.
        width: Width of the sheet in pixels.

    Returns:
        (H, width, 3) uint8 RGB on white; a single white row without images.

    Raises:
        DataError: An image is not (H, W, 3) uint8.
        UsageError: The sheet is too narrow for its columns.
    """
    columns = max(1, columns or round(len(images) ** 0.5))
    gap = max(2, width // 160)
    column_width = (width - gap * (columns + 1)) // columns
    if column_width < 1:
        hint = "Increase width, or use fewer columns."
        raise UsageError("the sheet is too narrow for its columns", field="width", value=width, hint=hint)
    font_size = max(10, min(width // 80, column_width // 12))
    caption_height = compute_line_height(font_size) + gap // 2 if any(captions) else 0
    resized = [_fit_column(copy_canvas(image), column_width) for image in images]
    rows = [resized[start : start + columns] for start in range(0, len(resized), columns)]
    heights = [max(len(image) for image in row) for row in rows]
    total_height = sum(heights) + len(rows) * (caption_height + gap) + gap if rows else 1
    sheet = np.full((total_height, width, 3), BACKGROUND, np.uint8)
    top = gap
    for number, (row, height) in enumerate(zip(rows, heights)):
        for column, image in enumerate(row):
            left = gap + column * (column_width + gap)
            x, y = left + (column_width - image.shape[1]) // 2, top + (height - image.shape[0]) // 2
            sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
            index = number * columns + column
            if index < len(captions):
                text = shorten_text(captions[index], font_size, column_width)
                start = left + (column_width - measure_text_width(text, font_size)) // 2
                draw_text(sheet, text, (start, top + height + gap // 4), font_size, TEXT_COLOR)
        top += height + caption_height + gap
    return sheet


def _fit_column(image: np.ndarray, column_width: int) -> np.ndarray:
    """Resizes an image to the width of its column, or to the maximum height."""
    height, width = image.shape[:2]
    scale = min(column_width / width, MAX_ASPECT * column_width / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_CUBIC)
