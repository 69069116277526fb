"""Datasets of objects with masks or keypoints: what `recognize` knows of boxes, and labelme."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import Classes, CocoSource, FileSource, VocSource, YoloSource, chooser
from densevision.datasets.format_detection import SPLIT_NOTE, DetectedFormat, detect_format
from densevision.datasets.formats import coco_objects, labelme, yolo_masks
from densevision.datasets.instance_sets import InstanceTable
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import Findings
from densevision.ops.skeleton import Skeleton

PROBED = 5
"""Files of a folder that are looked into."""


@dataclass(frozen=True)
class LabelmeSource:
    """A folder of labelme files; `part` is "train" or "val" where it must be divided."""

    folder: Path
    part: str | None = None

    def classes(self) -> Classes:
        """The labels that occur, numbered from 1."""
        names = labelme.class_names(self.folder)
        return Classes(names, tuple(range(1, len(names) + 1)))

    def read_objects(self, names: tuple[str, ...], findings: Findings, max_pixels: int) -> InstanceTable:
        """The table of this split."""
        return InstanceTable(*labelme.read_labelme(self.folder, names, findings, max_pixels, chooser(self.part)))


def detect_object_format(path: str, train: str | None = None, val: str | None = None) -> DetectedFormat:
    """Finds the splits of a dataset of objects: as `recognize`, or a folder of labelme files.

    A labelme folder may hold the folders train and val; otherwise a tenth of its images is held out.
    """
    root = Path(path)
    folders = {split: root / (name or split) for split, name in (("train", train), ("val", val))}
    if all(_is_labelme(folder) for folder in folders.values()):
        return DetectedFormat({split: LabelmeSource(folder) for split, folder in folders.items()})
    if _is_labelme(root):
        return DetectedFormat({part: LabelmeSource(root, part) for part in ("train", "val")}, (SPLIT_NOTE,))
    return detect_format(path, train, val)


def read_objects(
    source: FileSource, boxes: BoxTable, masks: bool, skeleton: Skeleton | None, findings: Findings
) -> InstanceTable:
    """The masks and keypoints of boxes that were read; objects that lack them are left out.

    Args:
        source: Where the boxes were read.
        boxes: All or some of its boxes.
        masks: Read masks.
        skeleton: The keypoints to read; none when not given.
        findings: Decides about what is wrong.

    Raises:
        DataError: The format holds no such thing, or something is wrong and the policy is `fail`.
    """
    table = InstanceTable(boxes, None, None, skeleton)
    if masks:
        found, keep = _masks(source, boxes, findings)
        table = InstanceTable(boxes, found, None, skeleton).kept(keep)
    if skeleton is not None:
        if not isinstance(source, CocoSource):
            raise DataError("this format holds no keypoints", file=source.folder, hint="Give a COCO json.")
        points, keep = coco_objects.read_keypoints(source.file, table.boxes, skeleton, findings)
        left = None if table.masks is None else table.masks.take(np.flatnonzero(keep))
        table = InstanceTable(table.boxes, left, points, skeleton).kept(keep)
    return table


def _masks(source: FileSource, boxes: BoxTable, findings: Findings):
    if isinstance(source, CocoSource):
        return coco_objects.read_masks(source.file, boxes, findings)
    if isinstance(source, YoloSource):
        return yolo_masks.read_masks(source.dataset, boxes, findings)
    assert isinstance(source, VocSource)
    hint = "Pascal VOC's xml has boxes only: take the task detection, or convert the masks to COCO json."
    raise DataError("this format holds no masks", file=source.folder, hint=hint)


def _is_labelme(folder: Path) -> bool:
    files = list(islice(folder.glob("*.json"), PROBED)) if folder.is_dir() else []
    return bool(files) and all(labelme.is_labelme(file) for file in files)
