"""Masks of a whole dataset as they lie in its files, packed into three arrays; none is drawn before it is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densevision.ops.masks import RLE, areas, empty, from_counts, from_polygons
from densevision.ops.view import Size

OUTLINES, RUNS = 0, 1
"""How an object is kept: the outlines of its parts, or compressed run lengths."""
DOUBTFUL = 4.0
"""Outlines around fewer pixels than this may hold no pixel's center."""
STEPS = 100
"""Per pixel: numbers of two decimals, as most files write them, are kept as whole ones of half the size."""


@dataclass(frozen=True, eq=False)
class Segmentations:
    """The masks of M objects.

    Attributes:
        kinds: (M,) uint8, OUTLINES or RUNS.
        blob: (bytes,) uint8: for outlines int32 numbers, the count of parts and their lengths, and then x y x y ... as
            int32 of `STEPS` per pixel, or where the count is negative, as float64; for runs COCO's compressed text.
        offsets: (M + 1,) int64; object i is blob[offsets[i]:offsets[i + 1]].
    """

    kinds: np.ndarray
    blob: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    def mask(self, row: int, size: Size) -> RLE:
        """The mask of an object on an image of this (height, width)."""
        if self.kinds[row] == RUNS:
            return {"size": [int(side) for side in size], "counts": self._part(row).decode("ascii")}
        return from_polygons(self.outlines(row), size)

    def outlines(self, row: int) -> list[np.ndarray]:
        """The parts, (points, 2) float64 xy each as the file says, of an object that is kept by its outlines."""
        part = self._part(row)
        count = int(np.frombuffer(part, np.int32, 1)[0])
        lengths = np.frombuffer(part, np.int32, abs(count), 4)
        body = part[4 * (abs(count) + 1) :]
        numbers = np.frombuffer(body, np.int32) / STEPS if count > 0 else np.frombuffer(body, np.float64)
        return [one.reshape(-1, 2) for one in np.split(numbers, np.cumsum(lengths)[:-1])]

    def _part(self, row: int) -> bytes:
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def take(self, rows: np.ndarray) -> Segmentations:
        """The objects of these rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Segmentations(self.kinds[rows], self.blob[source], offsets)


class Gathered:
    """Gathers masks as a reader finds them."""

    def __init__(self) -> None:
        self.kinds, self.blob, self.offsets = array("B"), bytearray(), array("q", [0])

    def add_outlines(self, parts: Sequence[Sequence[float]]) -> None:
        """Adds an object of one or several outlines, x y x y ... in pixels each.

        Not a bit of the numbers is lost: drawing rounds to fifths of a pixel, where the least difference can show.
        """
        numbers = np.fromiter((value for part in parts for value in part), np.float64)
        steps = np.rint(numbers * STEPS)
        whole = bool((steps / STEPS == numbers).all() and (np.abs(steps) < 2**31).all())
        head = [len(parts) if whole else -len(parts), *(len(part) for part in parts)]
        body = steps.astype(np.int32) if whole else numbers
        self._add(OUTLINES, np.asarray(head, np.int32).tobytes() + body.tobytes())

    def add_runs(self, mask: RLE) -> None:
        """Adds an object by its run lengths."""
        self._add(RUNS, mask["counts"].encode("ascii"))

    def packed(self) -> Segmentations:
        """All masks so far."""
        return Segmentations(
            np.array(self.kinds, np.uint8), np.frombuffer(bytes(self.blob), np.uint8), np.array(self.offsets, np.int64)
        )

    def _add(self, kind: int, part: bytes) -> None:
        self.kinds.append(kind)
        self.blob += part
        self.offsets.append(len(self.blob))


def runs_of(value: dict[str, Any], size: Size) -> RLE | None:
    """Run lengths as COCO writes them, compressed or as a list of numbers; None where they are not of this size."""
    counts, stated = value.get("counts"), value.get("size")
    if stated is not None and stated not in (list(size), tuple(size)):
        return None
    if isinstance(counts, list):
        right = all(type(count) is int and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
        return from_counts(counts, size) if right else None
    if not isinstance(counts, str) or not counts:
        return None
    return {"size": [int(side) for side in size], "counts": counts} if _length(counts) == size[0] * size[1] else None


def holds_pixels(parts: Sequence[Sequence[float]], size: Size) -> bool:
    """Whether outlines cover the center of any pixel."""
    points = [np.asarray(part, np.float64).reshape(-1, 2) for part in parts]
    if max(map(_surface, points)) >= DOUBTFUL and all(_inside(part, size) for part in points):
        return True
    return bool(areas([from_polygons(points, size)])[0]) if points else bool(areas([empty(size)])[0])


def _inside(points: np.ndarray, size: Size) -> bool:
    return bool((points >= 0).all() and (points <= size[::-1]).all())


def _surface(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _length(text: str) -> int:
    """Pixels that COCO's compressed text describes: five bits a character, a sixth says that more follow."""
    total, counts, value, shift = 0, [0, 0], 0, 0
    for character in text.encode("ascii", "replace"):
        bits = character - 48
        if not 0 <= bits < 64:
            return -1
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            # From the third run on, the text holds the difference to the last run but one.
            value += counts[-2] if len(counts) > 4 else 0
            counts.append(value)
            total += value
            value = shift = 0
    return total
