"""Boxes and objects of a source dataset, split by split, ready to be written in another format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import BoxSource, CocoSource, FileBoxSource, ObjectSource, VocSource, YoloSource
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.format_detection import detect_format
from densevision.datasets.formats import voc
from densevision.datasets.formats.yolo import get_label_path
from densevision.datasets.instance_sources import read_instance_table
from densevision.datasets.splits import HOLD_OUT_NOTE, SceneSource
from densevision.errors import DataError, UsageError
from densevision.io.box_table import BoxTable
from densevision.io.image_files import MAX_INT32
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import LabelIssues, OnError
from densevision.io.lines import read_lines
from densevision.io.segmentations import POLYGONS, Segmentations

__all__ = [
    "ObjectSplit",
    "claim_image_name",
    "collect_categories",
    "count_category_ids",
    "count_image_ids",
    "dump_json",
    "is_polygon",
    "iterate_images",
    "list_labeled_rows",
    "read_splits",
    "round_number",
]

CARRIED_KEYS = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "categories": {"id", "name"},
}
"""Keys of a COCO JSON that are carried over."""
BOX_LINE_WORDS = 5
"""Words of a YOLO line that holds a box only."""


@dataclass(frozen=True, eq=False)
class ObjectSplit:
    """The objects of one split.

    Attributes:
        boxes: Boxes, classes, images.
        masks: One per box; None if there are boxes only.
        folder: The folder that the table's files are relative to.
        names: Name of each image without the folders that its format prepends.
        stated_areas: (M,) float64 areas in the source; NaN if it has none.
    """

    boxes: BoxTable
    masks: Segmentations | None
    folder: Path
    names: tuple[str, ...]
    stated_areas: np.ndarray

    def rows(self, image: int) -> range:
        """Returns the rows of the objects of an image."""
        return range(int(self.boxes.offsets[image]), int(self.boxes.offsets[image + 1]))

    def name(self, row: int) -> str:
        """Returns the class name of an object."""
        return self.boxes.names[self.boxes.labels[row]]

    def size(self, image: int) -> tuple[int, int]:
        """Returns the (height, width) of an image."""
        height, width = self.boxes.sizes[image].tolist()
        return height, width


def read_splits(path: str, masks: bool | None, on_error: OnError, report: ConversionReport) -> dict[str, ObjectSplit]:
    """Reads the objects of all splits of a dataset; a dataset without splits becomes one split, "train".

    Args:
        path: The dataset, as for training.
        masks: Read masks; by default if the source has them.
        on_error: The policy for invalid labels.
        report: Counts skipped labels and what no conversion carries over.

    Raises:
        DataError: The format is unknown, or a label is invalid and the policy is `fail`.
    """
    detected = detect_format(path)
    # Notes end in the training option that selects another file, which does not exist here.
    report.notes += [note.partition("; data.")[0] for note in detected.notes if note != HOLD_OUT_NOTE]
    sources = dict(detected.splits)
    report.add("test splits", int(_has_test_split(sources.values())))
    first = next(iter(sources.values()))
    if not isinstance(first, SceneSource) and first.part is not None:
        sources = {"train": replace(first, part=None)}
    splits: dict[str, ObjectSplit] = {}
    seen: set[Path] = set()
    for split, source in sources.items():
        if isinstance(source, SceneSource):
            hint = "Give the folder of a dataset."
            raise UsageError("procedural scenes cannot be converted", field="source", value=path, hint=hint)
        issues = LabelIssues(on_error)
        splits[split] = _read_split(source, masks, issues)
        report.notes += [f"{split}: {note}" for note in issues.notes]
        if isinstance(source, YoloSource) and source.dataset.keypoints:
            report.add("keypoints of lines", len(splits[split].boxes.labels))
        if isinstance(source, CocoSource) and source.file not in seen:
            seen.add(source.file)
            _count_extra_keys(source.file, report)
    return splits


def _read_split(source: FileBoxSource, masks: bool | None, issues: LabelIssues) -> ObjectSplit:
    boxes, segmentations = source.read(issues, MAX_INT32), None
    if masks or (masks is None and _has_masks(source, boxes)):
        table = read_instance_table(source, boxes, True, None, issues)
        boxes, segmentations = table.boxes, table.masks
    folder = Path(source.folder)
    stated_areas = np.full(len(boxes.labels), np.nan)
    if isinstance(source, CocoSource):
        areas = {
            index: entry["area"]
            for key, index, entry in stream_json(source.file)
            if key == "annotations" and isinstance(entry, dict) and type(entry.get("area")) in (int, float)
        }
        stated_areas = np.array([areas.get(int(origin), np.nan) for origin in boxes.origin], np.float64)
    return ObjectSplit(boxes, segmentations, folder, tuple(_shorten_names(source, boxes)), stated_areas)


def _has_masks(source: FileBoxSource, boxes: BoxTable) -> bool:
    """Whether any object of a source has a mask; objects without one are subject to `on_error` then."""
    has_keypoints = isinstance(source, YoloSource) and source.dataset.keypoints > 0
    if isinstance(source, VocSource) or has_keypoints or not len(boxes.labels):
        return False
    if isinstance(source, ObjectSource):
        return source.read_objects(LabelIssues("skip")).has_masks
    if isinstance(source, CocoSource):
        entries = (entry for key, _, entry in stream_json(source.file) if key == "annotations")
        return any(isinstance(entry, dict) and entry.get("segmentation") for entry in entries)
    labeled_rows = np.flatnonzero(np.diff(boxes.offsets)).tolist()
    lines = (line for row in labeled_rows for line in read_lines(source.folder / get_label_path(boxes.files[row])))
    return any(len(line.split()) > BOX_LINE_WORDS for line in lines)


def _has_test_split(sources: Iterable[BoxSource]) -> bool:
    """Whether a dataset has a test split besides these sources."""
    for source in sources:
        if isinstance(source, YoloSource):
            others = {split for split, entries in source.dataset.splits.items() if entries != source.entries}
        elif isinstance(source, VocSource):
            others = set(voc.list_splits(source.folder)) - {source.split}
        elif isinstance(source, CocoSource):
            files = (*source.file.parent.glob("*.json"), *source.file.parent.parent.glob(f"*/{source.file.name}"))
            others = {word for file in files if file != source.file for word in _split_words(file)}
        else:
            return False
        if "test" not in others:
            return False
    return True


def _shorten_names(source: FileBoxSource, boxes: BoxTable) -> Iterator[str]:
    prefixes = ["JPEGImages", "images"] if isinstance(source, VocSource) else []
    if isinstance(source, YoloSource):
        prefixes = [*sorted((os.path.normpath(entry) for entry in source.entries), key=len, reverse=True), "images"]
    if isinstance(source, ObjectSource) and source.labels.is_dir():
        prefixes = [os.path.relpath(source.labels, source.folder), "images"]
    elif isinstance(source, ObjectSource):
        prefixes = [os.path.relpath(source.labels.parent, source.folder), "images", "data"]
    for row in range(len(boxes)):
        name = boxes.files[row]
        prefix = next((prefix for prefix in prefixes if name.startswith(os.path.join(prefix, ""))), "")
        yield os.path.relpath(name, prefix) if prefix else name


def _count_extra_keys(file: Path, report: ConversionReport) -> None:
    """Counts the content of a COCO JSON under other keys."""
    for key, index, entry in stream_json(file):
        if key not in CARRIED_KEYS:
            # A list is announced by an empty list without index, followed by its elements.
            report.add(f"JSON key {key}", int(index == 0 or (index is None and entry != [])))
        elif isinstance(entry, dict):
            for other in entry.keys() - CARRIED_KEYS[key]:
                if entry[other] not in (None, [], {}, ""):
                    report.add(f"JSON key {key}[].{other}")


def _split_words(file: Path) -> list[str]:
    return re.findall("[a-z]+", f"{file.parent.name}/{file.stem}".lower())


def claim_image_name(objects: ObjectSplit, image: int, claimed: dict[str, str]) -> str:
    """Returns the name of an image and records it in `claimed`, without its suffix, as for label files.

    Raises:
        DataError: Two images would share one label file.
    """
    name = objects.names[image]
    stem = os.path.splitext(name)[0]
    other = claimed.setdefault(stem, name)
    if other != name:
        raise DataError("two images would share one label file", file=name, value=other, hint="Rename one.")
    return name


def iterate_images(objects: ObjectSplit) -> Iterator[tuple[int, str]]:
    """Yields the number and the name of each image, with / between its folders.

    Raises:
        DataError: Two images would share one label file.
    """
    claimed: dict[str, str] = {}
    for image in range(len(objects.boxes)):
        yield image, claim_image_name(objects, image, claimed).replace(os.sep, "/")


def list_labeled_rows(objects: ObjectSplit, image: int) -> list[int]:
    """Lists the rows of the objects of an image without crowd regions."""
    return [row for row in objects.rows(image) if not objects.boxes.crowd[row]]


def count_image_ids(objects: ObjectSplit, report: ConversionReport) -> None:
    """Counts image ids that are not 1, 2, ..."""
    boxes = objects.boxes
    report.add("image ids", int((boxes.image_ids != np.arange(1, len(boxes) + 1)).sum()))


def collect_categories(splits: dict[str, ObjectSplit]) -> dict[str, int]:
    """Collects class name -> category id of all splits, whose classes may differ."""
    categories: dict[str, int] = {}
    for objects in splits.values():
        for name, category_id in zip(objects.boxes.names, objects.boxes.ids):
            categories.setdefault(name, category_id)
    return categories


def count_category_ids(ids: Iterable[int], first: int, report: ConversionReport) -> None:
    """Counts category ids that are not first, first + 1, ..."""
    report.add("category ids", sum(category_id != number for number, category_id in enumerate(ids, first)))


def is_polygon(objects: ObjectSplit, row: int) -> bool:
    """Whether the mask of an object is stored as polygons."""
    return objects.masks is not None and objects.masks.kinds[row] == POLYGONS


def round_number(value: float) -> float | int:
    """Rounds to three decimals, to an int if possible.

    >>> round_number(12.0004), round_number(3.14159)
    (12, 3.142)
    """
    value = round(float(value), 3)
    return int(value) if value.is_integer() else value


def dump_json(content: object) -> str:
    """Serializes to JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
