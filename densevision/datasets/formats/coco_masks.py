"""Class maps from COCO JSON: panoptic images of segment ids, and polygons or run lengths of instances."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from densevision.datasets.formats.coco import (
    drop_placeholder,
    parse_categories,
    read_categories,
    read_panoptic_categories,
)
from densevision.datasets.formats.coco_lists import LISTS, is_integer, to_whole_number
from densevision.datasets.formats.coco_objects import MAX_COORDINATE, parse_segmentation
from densevision.errors import DataError
from densevision.io.foreign_names import localize_name
from densevision.io.image import read_image
from densevision.io.image_files import is_inside
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues
from densevision.io.masks import UNKNOWN
from densevision.ops.masks import decode, encode_polygons
from densevision.ops.view import Size

__all__ = ["BACKGROUND", "CocoMasks", "InstanceEntry", "read_coco_masks", "read_mask_classes"]

BACKGROUND = "background"
"""Class of pixels without an instance; precedes the categories."""


class InstanceEntry(NamedTuple):
    """An object of an image.

    Attributes:
        label: Index of its class.
        segmentation: Polygons or run lengths, as in the file.
        area: Stated area in pixels; 0 if it is missing.
        crowd: Whether it is a crowd region.
        index: Index of its annotation in the file.
    """

    label: int
    segmentation: Any
    area: float
    crowd: bool
    index: int  # type: ignore[assignment]


@dataclass(frozen=True)
class CocoMasks:
    """The class maps of a COCO JSON.

    Attributes:
        file: The JSON.
        folder: Panoptic JSON: the folder of label images. None for instance JSON.
        images: File names of the images.
        target_records: One per image. Panoptic: (label image, ((segment id, class), ...)), class 255 if it is
            unlisted. Instance: a list of `InstanceEntry`.
        names: Class names in the order of their category ids; instance JSON begins with the background.
        stuff: Names of the classes that are not objects: the background, and stuff categories of panoptic JSON.
        stated_sizes: (height, width) of each image in an instance JSON, if it states them.
    """

    file: Path
    folder: Path | None
    images: tuple[str, ...]
    target_records: tuple[Any, ...]
    names: tuple[str, ...]
    stuff: tuple[str, ...] = ()
    stated_sizes: tuple[Size | None, ...] = ()

    def validate(self, sizes: np.ndarray, issues: LabelIssues) -> CocoMasks:
        """Validates file names and segmentations.

        Args:
            sizes: (n, 2) sizes of the images; images of size 0 are removed.
            issues: Reports invalid segmentations, whose objects are removed.
        """
        rows, target_records = [], []
        for row, (name, truth, (height, width)) in enumerate(zip(self.images, self.target_records, sizes.tolist())):
            if not height:
                continue
            if self._is_turned(row, (height, width)):
                value = f"{height} x {width} stated, the upright image has {width} x {height}"
                issues.add(IssueKind.MASK_SIZE, self.file, "images", value, name)
                continue
            rows.append(row)
            if self.folder is None:
                truth = [self._validate_entry(entry, (height, width), name, issues) for entry in truth]
                truth = [entry for entry in truth if entry is not None]
            target_records.append(truth)
        return replace(self.select(rows), target_records=tuple(target_records))

    def _is_turned(self, index: int, size: Size) -> bool:
        """Whether the JSON states the size of the stored pixels of an image that its EXIF orientation turns."""
        stated = self.stated_sizes[index] if self.stated_sizes else None
        return stated is not None and stated != size and stated == size[::-1]

    def _validate_entry(
        self, entry: InstanceEntry, size: tuple[int, int], name: str, issues: LabelIssues
    ) -> InstanceEntry | None:
        field = f"annotations[{entry.index}].segmentation"
        segmentation = parse_segmentation(entry.segmentation, size, field, self.file, issues, name)
        return None if segmentation is None else entry._replace(segmentation=segmentation)

    def localize(self, folder: Path, issues: LabelIssues) -> CocoMasks:
        """Converts file names of other systems, and removes images outside the folder."""
        names = [localize_name(name, folder) for name in self.images]
        rows = []
        for row, name in enumerate(names):
            if is_inside(name) or issues.add(IssueKind.NAME_ESCAPES, self.file, "file_name", name, name):
                rows.append(row)
        return replace(self, images=tuple(names)).select(rows)

    def select(self, rows: Sequence[int]) -> CocoMasks:
        """Selects images."""
        images, target_records = (tuple(column[row] for row in rows) for column in (self.images, self.target_records))
        stated_sizes = tuple(self.stated_sizes[row] for row in rows) if self.stated_sizes else ()
        return replace(self, images=images, target_records=target_records, stated_sizes=stated_sizes)

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """Reads the class map of an image.

        Args:
            index: Index of the image.
            size: (height, width) of the image.
            multilabel: Return sets of classes, since instances may overlap.

        Returns:
            (H, W) uint8 indices into `names`, 255 unknown; with `multilabel` uint16 sets of `names[1:]`.

        Raises:
            DataError: The label image cannot be read or contains an unlisted segment, or a segmentation is invalid.
        """
        if self.folder is not None:
            return self._read_panoptic(*self.target_records[index])
        if self._is_turned(index, size):
            hint = "Apply the EXIF orientation to the image file and its labels."
            raise DataError(
                "labels are for the stored pixels of a rotated image", file=self.file, value=size, hint=hint
            )
        masks = [(entry.label, self._decode(entry, size)) for entry in self._sort_by_area(index)]
        if multilabel:
            labels = np.zeros(size, np.uint16)
            for label, mask in masks:
                labels[mask] |= np.uint16(1 << (label - 1))
            return labels
        labels = np.zeros(size, np.uint8)
        for label, mask in masks:
            labels[mask] = label
        return labels

    def _sort_by_area(self, index: int) -> list[InstanceEntry]:
        """Returns crowds, then objects from large to small, so that small objects stay visible."""
        return sorted(self.target_records[index], key=lambda entry: (not entry.crowd, -entry.area))

    def _read_panoptic(self, name: str, segments: tuple[tuple[int, int], ...]) -> np.ndarray:
        folder = self.folder or Path()
        name = localize_name(name, folder)
        if not is_inside(name):
            raise DataError("a file name points outside the folder", file=self.file, field="file_name", value=name)
        path = folder / name
        pixels = read_image(path)[..., :3].astype(np.int64)
        ids = pixels @ np.array([1, 256, 65536])
        class_by_segment = dict([(0, UNKNOWN), *segments])
        unique_ids, inverse = np.unique(ids, return_inverse=True)
        if missing := [segment for segment in unique_ids.tolist() if segment not in class_by_segment]:
            hint = f"List it in segments_info of {self.file.name}."
            raise DataError("a segment is not listed", file=path, field="segment id", value=missing[0], hint=hint)
        return np.array([class_by_segment[segment] for segment in unique_ids.tolist()], np.uint8)[
            inverse.reshape(ids.shape)
        ]

    def _decode(self, entry: InstanceEntry, size: tuple[int, int]) -> np.ndarray:
        field = f"annotations[{entry.index}].segmentation"
        segmentation = parse_segmentation(entry.segmentation, size, field, self.file, LabelIssues("fail"))
        if isinstance(segmentation, dict):
            return decode(segmentation)
        return decode(encode_polygons([np.reshape(part, (-1, 2)) for part in segmentation or ()], size))


def read_coco_masks(file: str | os.PathLike[str], folder: Path | None, issues: LabelIssues) -> CocoMasks:
    """Reads a panoptic JSON (with the folder of its label images) or an instance JSON (without).

    Args:
        file: The JSON.
        folder: The folder of label images of a panoptic JSON; None for an instance JSON.
        issues: Reports invalid entries, and annotations of unlisted images or categories.

    Raises:
        DataError: The file is not such a JSON, or an entry is invalid and the policy is `fail`.
    """
    reader = _Reader(Path(file), folder is not None, issues)
    used_ids = {to_whole_number(entry.get("category_id")) for _, _, entry in reader.annotations}
    categories = drop_placeholder(reader.categories, used_ids, issues) if folder is None else reader.categories
    names, ids = parse_categories(categories, reader.file)
    first_class = 0 if folder is not None else 1
    class_by_id = {category: position + first_class for position, category in enumerate(ids)}
    rows = reader.resolve(class_by_id)
    stuff = (BACKGROUND,)
    if folder is not None:
        stuff = tuple(entry["name"] for entry in reader.categories if not entry.get("isthing", True))
    return CocoMasks(
        reader.file,
        folder,
        tuple(reader.images[image] for image in rows),
        tuple(rows.values()),
        names if folder is not None else (BACKGROUND, *names),
        stuff,
        () if folder is not None else tuple(reader.sizes[image] for image in rows),
    )


def read_mask_classes(file: str | os.PathLike[str], is_panoptic: bool) -> tuple[str, ...]:
    """Reads the class names of a panoptic or instance JSON; those of an instance JSON begin with the background."""
    if is_panoptic:
        return read_panoptic_categories(file)[0]
    return BACKGROUND, *read_categories(file)[0]


class _Reader:
    """Reads and validates the lists of a JSON.

    Attributes:
        images: Image id -> file name.
        sizes: Image id -> stated (height, width), or None.
        annotations: Index, image id, and category id (instance) or None (panoptic), with the entry.
        categories: The entries, unchanged.
    """

    def __init__(self, file: Path, is_panoptic: bool, issues: LabelIssues):
        self.file, self.is_panoptic, self.issues = file, is_panoptic, issues
        self.images: dict[int, str] = {}
        self.sizes: dict[int, Size | None] = {}
        self.annotations: list[tuple[int, int, dict[str, Any]]] = []
        self.categories: list[Any] = []
        keys = set()
        for key, index, entry in stream_json(file):
            if key not in LISTS:
                continue
            if index is None:
                keys.add(key)
            elif key == "categories":
                self.categories.append(entry)
            elif not isinstance(entry, dict):
                issues.add(IssueKind.ENTRY_MALFORMED, file, f"{key}[{index}]", entry)
            elif key == "images":
                self._add_image(index, entry)
            else:
                self._add_annotation(index, entry)
        missing = [key for key in LISTS if key not in keys]
        if missing:
            hint = "COCO JSON has images, annotations and categories."
            raise DataError("is not COCO JSON: a list is missing", file=file, field=", ".join(missing), hint=hint)

    def _add_image(self, index: int, entry: dict[str, Any]) -> None:
        image, name, field = to_whole_number(entry.get("id")), entry.get("file_name"), f"images[{index}]"
        if not is_integer(image):
            self.issues.add(IssueKind.ENTRY_MALFORMED, self.file, f"{field}.id", image)
        elif not isinstance(name, str):
            self.issues.add(IssueKind.ENTRY_MALFORMED, self.file, f"{field}.file_name", name)
        elif image in self.images:
            self.issues.add(IssueKind.IMAGE_ID_DUPLICATE, self.file, f"{field}.id", image, name)
        else:
            self.images[image] = name
            height, width = (to_whole_number(entry.get(key)) for key in ("height", "width"))
            self.sizes[image] = (height, width) if type(height) is int and type(width) is int else None

    def _add_annotation(self, index: int, entry: dict[str, Any]) -> None:
        keys = ("image_id",) if self.is_panoptic else ("image_id", "category_id")
        invalid = next((key for key in keys if not is_integer(to_whole_number(entry.get(key)))), None)
        if invalid is None and self.is_panoptic:
            segments = entry.get("segments_info")
            if not isinstance(segments, list) or not all(map(_is_segment, segments)):
                invalid = "segments_info"
            elif not isinstance(entry.get("file_name"), str):
                invalid = "file_name"
        if invalid is not None:
            field = f"annotations[{index}].{invalid}"
            self.issues.add(IssueKind.ENTRY_MALFORMED, self.file, field, entry.get(invalid))
        else:
            self.annotations.append((index, to_whole_number(entry["image_id"]), entry))

    def resolve(self, class_by_id: dict[int, int]) -> dict[int, Any]:
        """Returns image id -> ground truth, see `CocoMasks`; images without a panoptic annotation are skipped."""
        rows: dict[int, Any] = {} if self.is_panoptic else {image: [] for image in self.images}
        for index, image, entry in self.annotations:
            field = f"annotations[{index}]"
            if image not in self.images:
                self.issues.add(IssueKind.IMAGE_ID_ABSENT, self.file, f"{field}.image_id", image)
            elif self.is_panoptic:
                segments = tuple(
                    (segment["id"], self._find_class(segment["category_id"], class_by_id, field, image))
                    for segment in entry["segments_info"]
                )
                rows[image] = entry["file_name"], segments
            else:
                label = self._find_class(entry["category_id"], class_by_id, field, image)
                if label != UNKNOWN:
                    area: Any = entry.get("area")
                    area = float(area) if type(area) in (int, float) and abs(area) <= MAX_COORDINATE**2 else 0.0
                    crowd = bool(entry.get("iscrowd"))
                    rows[image].append(InstanceEntry(label, entry.get("segmentation"), area, crowd, index))
        for image in [image for image in self.images if image not in rows]:
            name = self.images[image]
            self.issues.warn(IssueKind.LABELS_MISSING, self.file, "annotations", image, name, action=SKIPPED)
        return {image: rows[image] for image in self.images if image in rows}

    def _find_class(self, category: Any, class_by_id: dict[int, int], field: str, image: int) -> int:
        label = class_by_id.get(to_whole_number(category))
        if label is None:
            field = f"{field}.category_id"
            self.issues.add(IssueKind.CLASS_ABSENT, self.file, field, category, self.images[image])
            return UNKNOWN
        return label


def _is_segment(value: Any) -> bool:
    return isinstance(value, dict) and is_integer(value.get("id")) and is_integer(value.get("category_id"))
