"""Boxes and objects between formats: what a source holds, split by split, with names as the target may use them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import CocoSource, FileSource, Source, VocSource, YoloSource
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.format_detection import SPLIT_NOTE
from densevision.datasets.formats import voc
from densevision.datasets.formats.yolo import label_path
from densevision.datasets.instance_sources import LabelmeSource, detect_object_format, read_objects
from densevision.datasets.scene_splits import SceneSource
from densevision.errors import DataError, UsageError
from densevision.io.box_table import BoxTable
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import Findings, OnError
from densevision.io.lines import read_lines
from densevision.io.segmentations import OUTLINES, Segmentations

KNOWN = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"},
    "categories": {"id", "name"},
}
"""What of a COCO json is carried over."""
BOX_WORDS = 5
"""Of a line of YOLO's that holds a box alone."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one split.

    Attributes:
        boxes: Boxes, classes, images.
        masks: One for each box; None where there are boxes only.
        folder: Where the table's files start.
        names: Name of each image without the folders that its format puts before it.
        stated: (M,) float64 areas as the source states them; NaN where it states none.
    """

    boxes: BoxTable
    masks: Segmentations | None
    folder: Path
    names: tuple[str, ...]
    stated: np.ndarray

    def rows(self, image: int) -> range:
        """Rows of an image's objects."""
        return range(int(self.boxes.offsets[image]), int(self.boxes.offsets[image + 1]))

    def name(self, row: int) -> str:
        """The class of an object."""
        return self.boxes.names[self.boxes.labels[row]]

    def size(self, image: int) -> tuple[int, int]:
        """(height, width) of an image."""
        height, width = self.boxes.sizes[image].tolist()
        return height, width


def read_splits(path: str, masks: bool | None, on_error: OnError, losses: ConversionReport) -> dict[str, Objects]:
    """The objects of every split of a dataset; a dataset without splits is one, "train".

    Args:
        path: The dataset, as `check` and `train` take it.
        masks: Read masks; where the source has them when not given.
        on_error: What to do with what is wrong.
        losses: Where it is said what was left out, and what no conversion carries over.

    Raises:
        DataError: Nothing is recognized, or something is wrong under "fail".
    """
    found = detect_object_format(path)
    # What names another file in training has no counterpart here.
    losses.notes += [note.partition("; data.")[0] for note in found.notes if note != SPLIT_NOTE]
    sources = dict(found.splits)
    losses.add("test splits", int(_has_test(sources.values())))
    if any(getattr(source, "part", None) for source in sources.values()):
        sources = {"train": replace(next(iter(sources.values())), part=None)}
    result, seen = {}, set()
    for split, source in sources.items():
        if isinstance(source, SceneSource):
            raise UsageError("scenes lie in no format", field="source", value=path, hint="Give a dataset's folder.")
        findings = Findings(on_error)
        result[split] = _read(source, masks, findings)
        losses.notes += [f"{split}: {note}" for note in findings.notes]
        if isinstance(source, YoloSource) and source.dataset.keypoints:
            losses.add("keypoints of lines", len(result[split].boxes.labels))
        if isinstance(source, CocoSource) and source.file not in seen:
            seen.add(source.file)
            _list_extras(source.file, losses)
    return result


def _read(source: FileSource | LabelmeSource, masks: bool | None, findings: Findings) -> Objects:
    limit = 2**31 - 1
    if isinstance(source, LabelmeSource):
        table = source.read_objects(source.classes().names, findings, limit)
        boxes, found = table.boxes, table.masks if masks is not False else None
    else:
        boxes, found = source.read(findings, limit), None
        if masks or (masks is None and _has_masks(source, boxes)):
            table = read_objects(source, boxes, True, None, findings)
            boxes, found = table.boxes, table.masks
    folder = Path(source.folder)
    stated = np.full(len(boxes.labels), np.nan)
    if isinstance(source, CocoSource):
        areas = {
            index: entry["area"]
            for key, index, entry in stream_json(source.file)
            if key == "annotations" and isinstance(entry, dict) and type(entry.get("area")) in (int, float)
        }
        stated = np.array([areas.get(int(origin), np.nan) for origin in boxes.origin], np.float64)
    return Objects(boxes, found, folder, tuple(_names(source, boxes)), stated)


def _has_masks(source: FileSource, boxes: BoxTable) -> bool:
    """Whether any object of a source has a mask; that others have none is for `on_error` then."""
    posed = isinstance(source, YoloSource) and source.dataset.keypoints > 0
    if isinstance(source, VocSource) or posed or not len(boxes.labels):
        return False
    if isinstance(source, CocoSource):
        entries = (entry for key, _, entry in stream_json(source.file) if key == "annotations")
        return any(isinstance(entry, dict) and entry.get("segmentation") for entry in entries)
    with_objects = np.flatnonzero(np.diff(boxes.offsets)).tolist()
    lines = (line for row in with_objects for line in read_lines(source.folder / label_path(boxes.files[row])))
    return any(len(line.split()) > BOX_WORDS for line in lines)


def _has_test(sources: Iterable[Source | LabelmeSource]) -> bool:
    """Whether a dataset has a test split besides the splits that were found."""
    for source in sources:
        if isinstance(source, YoloSource):
            others = {split for split, entries in source.dataset.splits.items() if entries != source.entries}
        elif isinstance(source, VocSource):
            others = set(voc.splits(source.folder)) - {source.split}
        elif isinstance(source, CocoSource):
            near = (*source.file.parent.glob("*.json"), *source.file.parent.parent.glob(f"*/{source.file.name}"))
            others = {word for file in near if file != source.file for word in _words(file)}
        else:
            return False
        if "test" not in others:
            return False
    return True


def _names(source: FileSource | LabelmeSource, boxes: BoxTable) -> Iterator[str]:
    prefixes = ("JPEGImages", "images") if isinstance(source, VocSource) else ()
    if isinstance(source, YoloSource):
        prefixes = (*sorted((os.path.normpath(entry) for entry in source.entries), key=len, reverse=True), "images")
    for row in range(len(boxes)):
        name = boxes.files[row]
        prefix = next((prefix for prefix in prefixes if name.startswith(os.path.join(prefix, ""))), "")
        yield os.path.relpath(name, prefix) if prefix else name


def _list_extras(file: Path, losses: ConversionReport) -> None:
    """What else a COCO json says, by its keys."""
    for key, index, entry in stream_json(file):
        if key not in KNOWN:
            # A list begins with an empty one of no index; each of its entries follows.
            losses.add(f"{key} of the json", int(index == 0 or (index is None and entry != [])))
        elif isinstance(entry, dict):
            for other in entry.keys() - KNOWN[key]:
                if entry[other] not in (None, [], {}, ""):
                    losses.add(f"{other} of {key}")


def _words(file: Path) -> list[str]:
    return re.findall("[a-z]+", f"{file.parent.name}/{file.stem}".lower())


def image_name(objects: Objects, image: int, taken: dict[str, str]) -> str:
    """The image's name, unless another image has taken it already: compared without suffix, as labels go by it.

    Raises:
        DataError: Two images would share one label file.
    """
    name = objects.names[image]
    stem = os.path.splitext(name)[0]
    other = taken.setdefault(stem, name)
    if other != name:
        raise DataError("two images would share one label file", file=name, value=other, hint="Rename one.")
    return name


def lose_ids(objects: Objects, losses: ConversionReport) -> None:
    """Counts the ids of images that are not 1, 2, ..."""
    boxes = objects.boxes
    losses.add("ids of images", int((boxes.image_ids != np.arange(1, len(boxes) + 1)).sum()))


def categories(splits: dict[str, Objects]) -> dict[str, int]:
    """Class name -> category id: of all splits, because one may list classes that another does not."""
    found: dict[str, int] = {}
    for objects in splits.values():
        for name, id in zip(objects.boxes.names, objects.boxes.ids):
            found.setdefault(name, id)
    return found


def lose_category_ids(ids: Iterable[int], first: int, losses: ConversionReport) -> None:
    """Counts the ids of categories that are not numbered from the first."""
    losses.add("category ids", sum(id != number for number, id in enumerate(ids, first)))


def is_outlined(objects: Objects, row: int) -> bool:
    """Whether an object's mask is kept by outlines."""
    return objects.masks is not None and objects.masks.kinds[row] == OUTLINES


def rounded(value: float) -> float | int:
    """A number to a thousandth, as a whole one where it is one.

    >>> rounded(12.0004), rounded(3.14159)
    (12, 3.142)
    """
    value = round(float(value), 3)
    return int(value) if value.is_integer() else value


def compact(content: object) -> str:
    """JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
