"""Label images: what the values or colors of their pixels mean, and palette PNGs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from densevision.errors import DataError
from densevision.io.atomic_write import whole
from densevision.io.image import MAX_PIXELS, read_image, read_index, to_rgb

UNKNOWN = 255
"""Value of pixels whose class is not known, in files and in answers."""
UNKNOWN_SET = 65535
"""The same where a pixel may be of several classes."""

Color = tuple[int, int, int]

BINARY = ("background", "foreground")
"""Names of the classes of `mode: binary`, when the config gives none."""
WHITE = (
    "no pixel is foreground: 255 means unknown",
    "Where 255 is the foreground, set data.values=[0,255]; where it is unknown, [0,1].",
)
"""What is wrong with masks of 0 and 255 where foreground is looked for, and what fixes it."""
CITYSCAPES_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""The 19 classes that Cityscapes judges, in the order of their trainIds."""
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Their labelIds."""


@dataclass(frozen=True)
class Coding:
    """What the pixels of a label image mean.

    Attributes:
        classes: Number of classes.
        values: Pixel value of each class; 0, 1, 2, ... when neither these nor colors are given.
        colors: RGB color of each class.
        unknown: Other values that mean unknown; 255 always does.
        unknown_colors: Colors that mean unknown.
        others_unknown: Every value that is no class means unknown.
    """

    classes: int
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None
    unknown: tuple[int, ...] = ()
    unknown_colors: tuple[Color, ...] = ()
    others_unknown: bool = False

    @classmethod
    def cityscapes(cls) -> Coding:
        """labelIds of Cityscapes to its 19 trainIds; every other id is unknown."""
        return cls(len(CITYSCAPES_IDS), CITYSCAPES_IDS, others_unknown=True)

    def tolerant(self) -> Coding:
        """The same, but what is no class means unknown."""
        return replace(self, others_unknown=True)

    def read(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads a label image.

        Returns:
            (H, W) uint8 indices of classes, 255 unknown.

        Raises:
            DataError: The image cannot be read, or a pixel's value or color is no class.
        """
        if self.colors is None:
            return self.decode(read_index(path, max_pixels), path)
        return self.decode_colors(to_rgb(read_image(path, max_pixels)), path)

    def read_sets(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Reads an image of sets of classes: bit i of a pixel stands for class i, whatever the values and colors.

        Returns:
            (H, W) uint16, 65535 unknown.

        Raises:
            DataError: The image cannot be read, or a pixel has a bit of no class and `others_unknown` is not set.
        """
        sets = read_index(path, max_pixels).astype(np.uint16)
        stray = (sets != UNKNOWN_SET) & (sets >> np.uint16(self.classes) > 0)
        if stray.any() and not self.others_unknown:
            hint = f"Bit i stands for class i of {self.classes}; {UNKNOWN_SET} is unknown."
            raise DataError("a pixel is of a class that is none", file=path, value=int(sets[stray][0]), hint=hint)
        sets[stray] = UNKNOWN_SET
        return sets

    def decode(self, values: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
        """(H, W) values as in a file to (H, W) uint8 indices of classes; `path` is for messages."""
        if values.dtype == np.uint8 and values.size:
            table = self._table(255)
            there = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel() > 0
            if not (there & (table < 0)).any():
                return cv2.LUT(values, table.astype(np.uint8))
        codes = self.values if self.values is not None else tuple(range(self.classes))
        labels = self._table(int(values.max(initial=0)))[values]
        if (labels < 0).any():
            strange = int(values[labels < 0][0])
            many = int((labels < 0).sum())
            known = f"Classes are {_listed(codes)}; unknown are {_listed((*self.unknown, UNKNOWN))}."
            hint = f"{known} Add the value to data.unknown, or correct {many} pixels."
            raise DataError("a pixel's value is no class", file=path, field=_place(labels), value=strange, hint=hint)
        return labels.astype(np.uint8)

    def _table(self, largest: int) -> np.ndarray:
        """int16: value in a file -> index of its class, 255 unknown, -1 no class."""
        table = np.full(max(256, largest + 1), UNKNOWN if self.others_unknown else -1, np.int16)
        for code in (*self.unknown, UNKNOWN):
            table[code : code + 1] = UNKNOWN
        for index, code in enumerate(self.values if self.values is not None else range(self.classes)):
            table[code : code + 1] = index
        return table

    def decode_colors(self, pixels: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
        """(H, W, 3) uint8 colors to (H, W) uint8 indices of classes; `path` is for messages."""
        colors = (*(self.colors or ()), *self.unknown_colors)
        indices = [*range(len(self.colors or ())), *[UNKNOWN] * len(self.unknown_colors)]
        codes = _packed(np.array(colors, np.uint8).reshape(-1, 3))
        order = np.argsort(codes, kind="stable")
        packed = _packed(pixels)
        found = np.searchsorted(codes[order], packed).clip(max=len(codes) - 1)
        labels = np.array(indices, np.int16)[order][found]
        labels[codes[order][found] != packed] = UNKNOWN if self.others_unknown else -1
        if (labels < 0).any():
            strange = tuple(pixels[labels < 0][0].tolist())
            hint = "Add it to data.colors or data.unknown_colors. Mixtures of two colors come from resizing or JPEG."
            raise DataError(
                "a pixel's color is not in the palette", file=path, field=_place(labels), value=strange, hint=hint
            )
        return labels.astype(np.uint8)


def write_palette_png(path: str | os.PathLike[str], labels: np.ndarray, colors: np.ndarray) -> None:
    """Writes class numbers as a PNG with a palette, whole or not at all.

    Args:
        path: The file to write.
        labels: (H, W) uint8; 255 is shown black.
        colors: (n, 3) uint8 RGB, one per class.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    image = Image.fromarray(labels, "L")
    image.putpalette(palette.tobytes())
    with whole(path) as temporary:
        image.save(temporary, "PNG")


def _packed(colors: np.ndarray) -> np.ndarray:
    """Colors (..., 3) as one number each."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _place(labels: np.ndarray) -> str:
    row, column = np.argwhere(labels < 0)[0].tolist()
    return f"pixel ({row}, {column})"


def _listed(numbers: tuple[int, ...]) -> str:
    consecutive = len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if consecutive else ", ".join(map(str, numbers))
