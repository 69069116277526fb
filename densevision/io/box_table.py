"""Boxes of a dataset in a dozen arrays: about 40 MB per million, shared with forked workers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import nan
from typing import Any, NamedTuple

import numpy as np

from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["RECORD", "BoxTable", "ClassList", "RecordBuffer", "RecordLocator", "StringArray", "build_table"]

OVERSHOOT = 1.0
"""Pixels by which a box may extend beyond its image: rounding and 1-based corners do so, and such boxes are kept."""

RECORD = np.dtype(
    [("image", "<i8"), ("label", "<i8"), ("box", "<f8", 4), ("area", "<f8"), ("crowd", "?"), ("origin", "<i4")]
)
"""A box as read: row of its image, class index, xyxy pixels, area (NaN: that of the box), crowd, place in its file."""

BLOCK_SIZE = 1 << 16
"""Boxes checked at a time, which bounds the memory of temporary arrays."""

RecordLocator = Callable[[int], tuple[str, str, Any]]
"""Row of a box as read -> its file, the field in it, and the value there."""

_pack = struct.Struct("<qqddddd?i").pack


@dataclass(frozen=True, eq=False)
class StringArray:
    """Strings in two arrays, concatenated as UTF-8; reading them in a worker touches no reference counts.

    Attributes:
        blob: (bytes,) uint8.
        offsets: (n + 1,) int64; string i is blob[offsets[i]:offsets[i + 1]].
    """

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, strings: Iterable[str]) -> StringArray:
        """Packs strings.

        >>> StringArray.of(["a.png", "Öl.png"])[1]
        'Öl.png'
        """
        blob, offsets = bytearray(), [0]
        for string in strings:
            blob += string.encode("utf-8", "surrogatepass")
            offsets.append(len(blob))
        return cls(np.frombuffer(bytes(blob), np.uint8), np.asarray(offsets, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        text = self.blob.tobytes().decode("utf-8", "surrogatepass")
        if len(text) != len(self.blob):  # offsets count bytes, so that only ASCII can be cut as text
            return (self[row] for row in range(len(self)))
        offsets = self.offsets.tolist()
        return (text[start:end] for start, end in pairwise(offsets))

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8", "surrogatepass")

    def take(self, rows: np.ndarray) -> StringArray:
        """Returns the strings of these rows."""
        return StringArray.of(self[int(row)] for row in rows)


class RecordBuffer:
    """Collects boxes while a file is read, in any order, 61 bytes each."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(
        self, image: int, label: int, box: Sequence[float], origin: int, crowd: bool = False, area: float = nan
    ) -> None:
        """Adds one box; an invalid one raises and leaves the buffer unchanged.

        Raises:
            struct.error: A value has a wrong type or size, or the box does not have four numbers.
        """
        self.data += _pack(image, label, *box, area, crowd, origin)

    def extend(self, records: np.ndarray) -> None:
        """Adds many boxes, (M,) of RECORD."""
        self.data += records.tobytes()

    def array(self) -> np.ndarray:
        """Returns the boxes added so far, (M,) of RECORD; nothing can be added while the array is in use."""
        return np.frombuffer(self.data, RECORD)


class ClassList(NamedTuple):
    """Class names and their category ids in the dataset."""

    names: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The ground truth of a detection dataset.

    Attributes:
        files: Images, relative to the image folder of the dataset.
        sizes: (n, 2) int32 (height, width).
        image_ids: (n,) int64.
        offsets: (n + 1,) int64; the boxes of image i are the rows offsets[i]:offsets[i + 1].
        boxes: (M, 4) float32 xyxy pixels.
        labels: (M,) int32 indices into `names`.
        crowd: (M,) bool.
        areas: (M,) float64 pixels: as stated in the file, or the area of the box.
        origin: (M,) int32 place in the label file: index of the annotation, number of the line or object.
        names: Class names.
        ids: Category ids, one per name.
        orientations: (n,) EXIF orientations by which the labels in the file are turned to fit the upright images; None
            if all are 1.
    """

    files: StringArray
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
    orientations: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def label_sizes(self) -> np.ndarray:
        """(n, 2) sizes of the images in the coordinates of the label file."""
        if self.orientations is None:
            return self.sizes
        return np.where(self.orientations[:, None] >= 5, self.sizes[:, ::-1], self.sizes)


def build_table(
    files: StringArray,
    sizes: np.ndarray,
    image_ids: np.ndarray,
    records: np.ndarray,
    names: tuple[str, ...],
    ids: tuple[int, ...],
    issues: LabelIssues,
    locate: RecordLocator,
    orientations: np.ndarray | None = None,
) -> BoxTable:
    """Checks the boxes against their images and sorts them by image.

    Args:
        files: n images.
        sizes: (n, 2) image sizes; an image of height 0 is skipped together with its boxes.
        image_ids: (n,) image ids.
        records: (M,) of RECORD; modified in place.
        names: Class names.
        ids: Category ids.
        issues: Reports invalid boxes.
        locate: Row of a record -> its place in the file.
        orientations: (n,) EXIF orientations by which the records were turned.
    """
    keep = sizes[records["image"], 0] > 0
    for start in range(0, len(records), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        _check_block(records[block], keep[block], sizes, files, issues, partial(_locate_in_block, locate, start))
    _check_duplicates(records, keep, files, issues, locate)
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
        orientations=None if orientations is None or (orientations == 1).all() else orientations[images],
    )


def _locate_in_block(locate: RecordLocator, start: int, row: int) -> tuple[str, str, Any]:
    return locate(start + row)


def _check_block(
    records: np.ndarray,
    keep: np.ndarray,
    sizes: np.ndarray,
    files: StringArray,
    issues: LabelIssues,
    locate: RecordLocator,
) -> None:
    """Fixes boxes in place or removes them from `keep`, depending on the policy; fills in missing areas."""
    boxes, areas, images = records["box"], records["area"], records["image"]

    def report(kind: IssueKind, is_invalid: np.ndarray) -> np.ndarray:
        """Reports invalid boxes; returns the rows to fix, the others are skipped."""
        rows = np.flatnonzero(keep & is_invalid)
        for row in rows.tolist():
            keep[row] = issues.add(kind, *locate(row), files[int(images[row])])
        return rows[keep[rows]]

    report(IssueKind.BOX_NOT_FINITE, ~np.isfinite(boxes).all(1))
    rows = report(IssueKind.BOX_REVERSED, np.asarray((boxes[:, 2:] < boxes[:, :2]).any(1)))
    boxes[rows] = np.sort(boxes[rows].reshape(-1, 2, 2), 1).reshape(-1, 4)
    with np.errstate(over="ignore"):
        rounded = boxes.astype(np.float32)  # sides must stay positive in the precision of the table
    report(IssueKind.BOX_FLAT, np.asarray((rounded[:, 2:] == rounded[:, :2]).any(1)))
    is_missing = np.isnan(areas)
    areas[is_missing] = _compute_areas(boxes[is_missing])

    corner = sizes[images][:, ::-1]
    is_away = (boxes[:, 2:] <= 0) | (boxes[:, :2] >= corner)
    report(IssueKind.BOX_AWAY, np.asarray(is_away.any(1)))
    overshoots = (boxes[:, :2] < -OVERSHOOT) | (boxes[:, 2:] > corner + OVERSHOOT)
    rows = report(IssueKind.BOX_OUTSIDE, np.asarray(overshoots.any(1)))
    clipped = np.clip(boxes[rows], 0, np.tile(corner[rows], 2))
    areas[rows] = np.minimum(areas[rows], _compute_areas(clipped))
    boxes[rows] = clipped


def _check_duplicates(
    records: np.ndarray, keep: np.ndarray, files: StringArray, issues: LabelIssues, locate: RecordLocator
) -> None:
    """Reports equal boxes of one class in one image.

    Two objects may have the same box, so duplicates are no error: under `fail` they are kept with a warning, otherwise
    the later one is skipped.
    """
    for row in _find_duplicates(records, np.flatnonzero(keep)).tolist():
        file = files[int(records["image"][row])]
        if issues.on_error == "fail":
            issues.warn(IssueKind.BOX_DUPLICATE, *locate(row), file)
        else:
            keep[row] = issues.add(IssueKind.BOX_DUPLICATE, *locate(row), file)


def _find_duplicates(records: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the rows whose image, class and box equal those of an earlier row."""
    hashes = np.zeros(len(records), np.uint64)
    for column in (records["image"], records["label"], *records["box"].T):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= np.ascontiguousarray(column).view(np.uint64)
        hashes ^= hashes >> np.uint64(29)
    order = rows[np.argsort(hashes[rows], kind="stable")]
    pairs = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    earlier, later = records[order[pairs]], records[order[pairs + 1]]
    is_equal = (earlier["box"] == later["box"]).all(1)
    is_equal &= (earlier["image"] == later["image"]) & (earlier["label"] == later["label"])
    return np.sort(order[pairs + 1][is_equal])


def _compute_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
