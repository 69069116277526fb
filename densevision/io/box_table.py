"""Boxes of a whole dataset in a dozen arrays: a million cost about 40 MB, and forked workers share them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from densevision.io.label_issues import Findings, Kind

ROUNDING = 1.0
"""Pixels by which a box may overshoot its image: rounding and 1-based corners do so, and such boxes stay as given."""

RECORD = np.dtype(
    [("image", "<i8"), ("label", "<i8"), ("box", "<f8", 4), ("area", "<f8"), ("crowd", "?"), ("origin", "<i4")]
)
"""A box as read: row of its image, index of its class, xyxy pixels, area (NaN: its own), crowd, place in its file."""

BLOCK = 1 << 16
"""Boxes that are checked at a time, so that what is computed on the way stays small."""

Where = Callable[[int], tuple[str, str, Any]]
"""Row of a box as read -> its file, the field in it, and the value that is written there."""

_pack = struct.Struct("<qqddddd?i").pack


@dataclass(frozen=True, eq=False)
class Strings:
    """Texts in two arrays, UTF-8 one after the other; workers that read them touch no reference counts.

    Attributes:
        blob: (bytes,) uint8.
        offsets: (n + 1,) int64; text i is blob[offsets[i]:offsets[i + 1]].
    """

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> Strings:
        """Packs texts.

        >>> Strings.of(["a.png", "Öl.png"])[1]
        'Öl.png'
        """
        blob, offsets = bytearray(), [0]
        for text in texts:
            blob += text.encode("utf-8", "surrogateescape")
            offsets.append(len(blob))
        return cls(np.frombuffer(bytes(blob), np.uint8), np.asarray(offsets, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8", "surrogateescape")

    def take(self, rows: np.ndarray) -> Strings:
        """The texts of these rows."""
        return Strings.of(self[int(row)] for row in rows)


class Records:
    """Gathers boxes as a reader finds them, in any order, 61 bytes each."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(
        self, image: int, label: int, box: Sequence[float], origin: int, crowd: bool = False, area: float = nan
    ) -> None:
        """Adds one box, or nothing.

        Raises:
            struct.error: A value is of a wrong type or size, or the box has not four numbers.
        """
        self.data += _pack(image, label, *box, area, crowd, origin)

    def array(self) -> np.ndarray:
        """The boxes so far, (M,) of RECORD; nothing can be added while it is in use."""
        return np.frombuffer(self.data, RECORD)


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The truth of a detection dataset.

    Attributes:
        files: Image of each row, relative to the dataset's folder of images.
        sizes: (n, 2) int32 (height, width).
        image_ids: (n,) int64.
        offsets: (n + 1,) int64; the boxes of image i are the rows offsets[i]:offsets[i + 1].
        boxes: (M, 4) float32 xyxy pixels.
        labels: (M,) int32 indices into `names`.
        crowd: (M,) bool.
        areas: (M,) float64 pixels: as stated, or the box's own.
        origin: (M,) int32 place in the label file: index of the annotation, number of the line or object.
        names: Class names.
        ids: Category ids, one per name.
    """

    files: Strings
    sizes: np.ndarray
    image_ids: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    origin: np.ndarray
    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image_ids)


def build_table(
    files: Strings,
    sizes: np.ndarray,
    image_ids: np.ndarray,
    records: np.ndarray,
    names: tuple[str, ...],
    ids: tuple[int, ...],
    findings: Findings,
    where: Where,
) -> BoxTable:
    """Checks the boxes against their images and packs them by image.

    Args:
        files: Images.
        sizes: (n, 2) their sizes; an image of height 0 is left out together with its boxes.
        image_ids: (n,) their ids.
        records: (M,) of RECORD; fixed in place.
        names: Class names.
        ids: Category ids.
        findings: Decides about each bad box.
        where: Names the place of a box as read.
    """
    keep = sizes[records["image"], 0] > 0
    for start in range(0, len(records), BLOCK):
        part = slice(start, start + BLOCK)
        _check_block(records[part], keep[part], sizes, files, findings, lambda row, start=start: where(start + row))
    _check_repeats(records, keep, files, findings, where)
    order = np.flatnonzero(keep)
    order = order[np.argsort(records["image"][order], kind="stable")]
    images = np.flatnonzero(sizes[:, 0])
    counts = np.bincount(records["image"][order], minlength=len(sizes))[images]
    return BoxTable(
        files=files if len(images) == len(files) else files.take(images),
        sizes=np.asarray(sizes, np.int32)[images],
        image_ids=np.asarray(image_ids, np.int64)[images],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=records["box"][order].astype(np.float32),
        labels=records["label"].astype(np.int32)[order],
        crowd=records["crowd"][order],
        areas=records["area"][order],
        origin=records["origin"][order],
        names=names,
        ids=ids,
    )


def _check_block(
    records: np.ndarray, keep: np.ndarray, sizes: np.ndarray, files: Strings, findings: Findings, where: Where
) -> None:
    """Fixes boxes in place, or takes them off `keep`, as the policy says; fills in the areas that are not stated."""
    boxes, areas, images = records["box"], records["area"], records["image"]

    def report(kind: Kind, bad: np.ndarray) -> np.ndarray:
        """Reports the bad among the kept; gives the rows that are to be fixed, the others are left out."""
        rows = np.flatnonzero(keep & bad)
        for row in rows.tolist():
            keep[row] = findings.add(kind, *where(row), files[int(images[row])])
        return rows[keep[rows]]

    report(Kind.BOX_NOT_FINITE, ~np.isfinite(boxes).all(1))
    hint = report(Kind.BOX_REVERSED, (boxes[:, 2:] < boxes[:, :2]).any(1))
    boxes[hint] = np.sort(boxes[hint].reshape(-1, 2, 2), 1).reshape(-1, 4)
    with np.errstate(over="ignore"):
        single = boxes.astype(np.float32)  # the type in which a side must not vanish
    report(Kind.BOX_FLAT, (single[:, 2:] == single[:, :2]).any(1))
    unstated = np.isnan(areas)
    areas[unstated] = _areas(boxes[unstated])

    corner = sizes[images][:, ::-1]
    report(Kind.BOX_AWAY, ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= corner)).any(1))
    over = ((boxes[:, :2] < -ROUNDING) | (boxes[:, 2:] > corner + ROUNDING)).any(1)
    hint = report(Kind.BOX_OUTSIDE, over)
    clipped = np.clip(boxes[hint], 0, np.tile(corner[hint], 2))
    areas[hint] = np.minimum(areas[hint], _areas(clipped))
    boxes[hint] = clipped


def _check_repeats(records: np.ndarray, keep: np.ndarray, files: Strings, findings: Findings, where: Where) -> None:
    """Two equal boxes of one class in one image are suspicious, but two things may fill the same box.

    So they stop nothing: under `fail` they are kept and mentioned, otherwise the later one is left out.
    """
    for row in _repeats(records, np.flatnonzero(keep)).tolist():
        about = files[int(records["image"][row])]
        if findings.on_error == "fail":
            findings.mention(Kind.BOX_TWICE, *where(row), about)
        else:
            keep[row] = findings.add(Kind.BOX_TWICE, *where(row), about)


def _repeats(records: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those of the rows whose image, class and box an earlier row has."""
    hashes = np.zeros(len(records), np.uint64)
    for column in (records["image"], records["label"], *records["box"].T):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= np.ascontiguousarray(column).view(np.uint64)
        hashes ^= hashes >> np.uint64(29)
    order = rows[np.argsort(hashes[rows], kind="stable")]
    pairs = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    earlier, later = records[order[pairs]], records[order[pairs + 1]]
    same = (earlier["box"] == later["box"]).all(1)
    same &= (earlier["image"] == later["image"]) & (earlier["label"] == later["label"])
    return np.sort(order[pairs + 1][same])


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
