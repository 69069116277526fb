"""Label images: the classes of their pixel values or colors, and palette PNGs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from densevision.errors import DataError
from densevision.io.atomic_write import atomic_write
from densevision.io.image import MAX_PIXELS, read_image, read_index_mask, to_rgb

__all__ = [
    "BINARY_255_PROBLEM",
    "BINARY_NAMES",
    "CITYSCAPES_NAMES",
    "UNKNOWN",
    "UNKNOWN_MULTILABEL",
    "Color",
    "LabelEncoding",
    "write_palette_png",
]

UNKNOWN = 255
"""Label of pixels whose class is unknown, in files and in predictions (the ignore index)."""
UNKNOWN_MULTILABEL = 65535
"""The same for multilabel maps, in which a pixel may have several classes."""

Color = tuple[int, int, int]

BINARY_NAMES = ("background", "foreground")
"""Default class names of `mode: binary`."""
BINARY_255_PROBLEM = (
    "no pixel is foreground: 255 means unknown",
    "If 255 is the foreground, set data.values=[0,255]; if it is unknown, set [0,1].",
)
"""Problem and hint for binary masks whose only values are 0 and 255."""
CITYSCAPES_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""The 19 evaluated classes of Cityscapes, in the order of their trainIds."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelIds of the 19 classes."""


@dataclass(frozen=True)
class LabelEncoding:
    """Maps pixel values or colors of a label image to class indices.

    Attributes:
        classes: Number of classes.
        values: Pixel value of each class; 0, 1, 2, ... if neither values nor colors are given.
        colors: RGB color of each class.
        unknown: Values that mean unknown, besides 255.
        unknown_colors: Colors that mean unknown.
        others_unknown: Every value without a class means unknown.
    """

    classes: int
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    unknown: tuple[int, ...] = ()
    unknown_colors: tuple[Color, ...] = ()
    others_unknown: bool = False

    @classmethod
    def cityscapes(cls) -> LabelEncoding:
        """Maps labelIds of Cityscapes to the 19 trainIds; every other id is unknown."""
        return cls(len(CITYSCAPES_IDS), CITYSCAPES_IDS, others_unknown=True)

    def tolerant(self) -> LabelEncoding:
        """Returns the same encoding, but values without a class mean unknown."""
        return replace(self, others_unknown=True)

    def read(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads a label image.

        Returns:
            (H, W) uint8 class indices, 255 unknown.

        Raises:
            DataError: The image cannot be read, or a pixel has a value or color without a class.
        """
        if self.colors is None:
            return self.decode(read_index_mask(path, max_pixels), path)
        return self.decode_colors(to_rgb(read_image(path, max_pixels)), path)

    def read_multilabel(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads a multilabel image: bit i of a pixel stands for class i; values and colors are ignored.

        Returns:
            (H, W) uint16, 65535 unknown.

        Raises:
            DataError: The image cannot be read, or a pixel has a bit without a class and `others_unknown` is not set.
        """
        sets = read_index_mask(path, max_pixels).astype(np.uint16)
        is_invalid = (sets != UNKNOWN_MULTILABEL) & (sets >> np.uint16(self.classes) > 0)
        if is_invalid.any() and not self.others_unknown:
            hint = f"Bit i stands for class i of {self.classes}; {UNKNOWN_MULTILABEL} is unknown."
            raise DataError("a pixel has a bit of no class", file=path, value=int(sets[is_invalid][0]), hint=hint)
        sets[is_invalid] = UNKNOWN_MULTILABEL
        return sets

    def decode(self, values: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
        """Maps (H, W) values of a file to (H, W) uint8 class indices; `path` is used in error messages."""
        if values.dtype == np.uint8 and values.size:
            table = self._build_lookup(255)
            is_present = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel() > 0
            if not (is_present & (table < 0)).any():
                return cv2.LUT(values, table.astype(np.uint8))
        codes = self.values if self.values is not None else tuple(range(self.classes))
        labels = self._build_lookup(int(values.max(initial=0)))[values]
        if (labels < 0).any():
            value, count = int(values[labels < 0][0]), int((labels < 0).sum())
            ranges = f"Classes are {_format_numbers(codes)}; unknown are {_format_numbers((*self.unknown, UNKNOWN))}."
            hint = f"{ranges} Add the value to data.unknown, or correct {count} pixels."
            field = _format_first_pixel(labels)
            raise DataError("a pixel's value is no class", file=path, field=field, value=value, hint=hint)
        return labels.astype(np.uint8)

    def _build_lookup(self, max_value: int) -> np.ndarray:
        """Builds an int16 table: value in a file -> class index, 255 unknown, -1 no class."""
        table = np.full(max(256, max_value + 1), UNKNOWN if self.others_unknown else -1, np.int16)
        for code in (*self.unknown, UNKNOWN):
            table[code : code + 1] = UNKNOWN
        for index, code in enumerate(self.values if self.values is not None else range(self.classes)):
            table[code : code + 1] = index
        return table

    def decode_colors(self, pixels: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
        """Maps (H, W, 3) uint8 colors to (H, W) uint8 class indices; `path` is used in error messages."""
        colors = (*(self.colors or ()), *self.unknown_colors)
        indices = [*range(len(self.colors or ())), *[UNKNOWN] * len(self.unknown_colors)]
        codes = _pack_colors(np.array(colors, np.uint8).reshape(-1, 3))
        order = np.argsort(codes, kind="stable")
        packed = _pack_colors(pixels)
        rows = np.searchsorted(codes[order], packed).clip(max=len(codes) - 1)
        labels = np.array(indices, np.int16)[order][rows]
        labels[codes[order][rows] != packed] = UNKNOWN if self.others_unknown else -1
        if (labels < 0).any():
            color, field = tuple(pixels[labels < 0][0].tolist()), _format_first_pixel(labels)
            hint = "Add it to data.colors or data.unknown_colors. Mixtures of two colors come from resizing or JPEG."
            raise DataError("a pixel's color is not in the palette", file=path, field=field, value=color, hint=hint)
        return labels.astype(np.uint8)


def write_palette_png(path: str | os.PathLike[str], labels: np.ndarray, colors: np.ndarray) -> None:
    """Writes class indices as a palette PNG, atomically.

    Args:
        path: The file to write.
        labels: (H, W) uint8; 255 is displayed black.
        colors: (n, 3) uint8 RGB, one per class.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    image = Image.fromarray(labels, "L")
    image.putpalette(palette.tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG")


def _pack_colors(colors: np.ndarray) -> np.ndarray:
    """Packs colors (..., 3) into one number each."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _format_first_pixel(labels: np.ndarray) -> str:
    row, column = np.argwhere(labels < 0)[0].tolist()
    return f"pixel ({row}, {column})"


def _format_numbers(numbers: tuple[int, ...]) -> str:
    is_range = len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if is_range else ", ".join(map(str, numbers))
