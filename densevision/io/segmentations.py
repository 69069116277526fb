"""Masks of a dataset as stored in its files, packed into three arrays; each is rasterized on access."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densevision.ops.masks import RLE, compute_areas, encode_counts, encode_empty, encode_polygons
from densevision.ops.view import Size

__all__ = ["POLYGONS", "RUN_LENGTHS", "SegmentationBuilder", "Segmentations", "covers_any_pixel", "parse_rle"]

POLYGONS, RUN_LENGTHS = 0, 1
"""How a mask is stored: as the polygons of its parts, or as compressed run lengths."""
MIN_CERTAIN_AREA = 4.0
"""A polygon of a smaller area, in pixels, may contain no pixel center."""
MAX_RUN_BITS = 60
"""Bits of a compressed run length; decoders in C overflow beyond 64."""
STEPS_PER_PIXEL = 100
"""Coordinates with two decimals, as most files have, are stored as integers of half the size."""


@dataclass(frozen=True, eq=False)
class Segmentations:
    """The masks of M objects.

    Attributes:
        kinds: (M,) uint8, POLYGONS or RUN_LENGTHS.
        blob: (bytes,) uint8. Polygons: int32 numbers (the count of parts, then their lengths), followed by the
            coordinates x y x y ... as int32 of `STEPS_PER_PIXEL`, or as float64 if the count is negative. Run lengths:
            COCO's compressed text.
        offsets: (M + 1,) int64; object i is blob[offsets[i]:offsets[i + 1]].
    """

    kinds: np.ndarray
    blob: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    def mask(self, row: int, size: Size) -> RLE:
        """Rasterizes the mask of an object for an image of this (height, width)."""
        if self.kinds[row] == RUN_LENGTHS:
            return {"size": [int(side) for side in size], "counts": self._get_bytes(row).decode("ascii")}
        return encode_polygons(self.polygons(row), size)

    def polygons(self, row: int) -> list[np.ndarray]:
        """Returns the parts of an object stored as polygons: (points, 2) float64 xy each, exactly as in the file."""
        data = self._get_bytes(row)
        count = int(np.frombuffer(data, np.int32, 1)[0])
        lengths = np.frombuffer(data, np.int32, abs(count), 4)
        body = data[4 * (abs(count) + 1) :]
        numbers = np.frombuffer(body, np.int32) / STEPS_PER_PIXEL if count > 0 else np.frombuffer(body, np.float64)
        return [part.reshape(-1, 2) for part in np.split(numbers, np.cumsum(lengths)[:-1])]

    def _get_bytes(self, row: int) -> bytes:
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def take(self, rows: np.ndarray) -> Segmentations:
        """Returns the masks of these rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Segmentations(self.kinds[rows], self.blob[source], offsets)


class SegmentationBuilder:
    """Collects masks while a file is read."""

    def __init__(self) -> None:
        self.kinds, self.blob, self.offsets = array("B"), bytearray(), array("q", [0])

    def add_polygons(self, parts: Sequence[Sequence[float]]) -> None:
        """Adds an object of one or several polygons, x y x y ... in pixels each, without any loss of precision.

        Rasterization rounds to fifths of a pixel, where the smallest difference can matter.
        """
        numbers = np.fromiter((value for part in parts for value in part), np.float64)
        steps = np.rint(numbers * STEPS_PER_PIXEL)
        is_exact = bool((steps / STEPS_PER_PIXEL == numbers).all() and (np.abs(steps) < 2**31).all())
        head = [len(parts) if is_exact else -len(parts), *(len(part) for part in parts)]
        body = steps.astype(np.int32) if is_exact else numbers
        self._add(POLYGONS, np.asarray(head, np.int32).tobytes() + body.tobytes())

    def add_rle(self, mask: RLE) -> None:
        """Adds an object given by run lengths."""
        self._add(RUN_LENGTHS, mask["counts"].encode("ascii"))

    def build(self) -> Segmentations:
        """Packs the masks added so far."""
        return Segmentations(
            np.array(self.kinds, np.uint8), np.frombuffer(bytes(self.blob), np.uint8), np.array(self.offsets, np.int64)
        )

    def _add(self, kind: int, data: bytes) -> None:
        self.kinds.append(kind)
        self.blob += data
        self.offsets.append(len(self.blob))


def parse_rle(value: dict[str, Any], size: Size) -> RLE | None:
    """Parses COCO run lengths, compressed or a list of numbers; None if they do not describe a mask of this size."""
    counts, size_in_file = value.get("counts"), value.get("size")
    if size_in_file is not None and size_in_file not in (list(size), tuple(size)):
        return None
    pixels = size[0] * size[1]
    if isinstance(counts, list):
        is_valid = all(type(count) is int and count >= 0 for count in counts) and sum(counts) == pixels
        return encode_counts(counts, size) if is_valid else None
    if not isinstance(counts, str) or not counts or _count_pixels(counts) != pixels:
        return None
    return {"size": [int(side) for side in size], "counts": counts}


def covers_any_pixel(parts: Sequence[Sequence[float]], size: Size) -> bool:
    """Whether polygons cover the center of any pixel of an image of this (height, width)."""
    points = [np.asarray(part, np.float64).reshape(-1, 2) for part in parts]
    if max(map(_compute_area, points)) >= MIN_CERTAIN_AREA and all(_is_within(part, size) for part in points):
        return True
    return (
        bool(compute_areas([encode_polygons(points, size)])[0])
        if points
        else bool(compute_areas([encode_empty(size)])[0])
    )


def _is_within(points: np.ndarray, size: Size) -> bool:
    return bool((points >= 0).all() and (points <= size[::-1]).all())


def _compute_area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _count_pixels(text: str) -> int:
    """Counts the pixels of COCO's compressed text, five bits per character plus a continuation bit; -1 if invalid."""
    total, counts, value, shift = 0, [0, 0], 0, 0
    for character in text.encode("ascii", "replace"):
        bits = character - 48
        if not 0 <= bits < 64:
            return -1
        value |= (bits & 31) << shift
        shift += 5
        if shift > MAX_RUN_BITS:
            return -1
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            # From the third run on, the text holds the difference to the run before the previous one.
            value += counts[-2] if len(counts) > 4 else 0
            if value < 0:  # decoders would write before the start of the mask
                return -1
            counts.append(value)
            total += value
            value = shift = 0
    return total
