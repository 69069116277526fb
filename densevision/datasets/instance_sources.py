"""Instance datasets on disk: the formats of boxes that also hold masks or keypoints, and labelme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import (
    BoxSource,
    ClassList,
    CocoSource,
    FileBoxSource,
    VocSource,
    YoloSource,
    build_selector,
)
from densevision.datasets.format_detection import DetectedFormat, detect_format
from densevision.datasets.formats import coco_objects, labelme, yolo_masks
from densevision.datasets.instance_dataset import InstanceTable
from densevision.datasets.splits import HOLD_OUT_NOTE
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.image_files import list_files
from densevision.io.label_issues import LabelIssues
from densevision.io.segmentations import Segmentations
from densevision.ops.skeleton import Skeleton

__all__ = ["LabelmeSource", "detect_instance_format", "read_instance_table"]

PROBED_FILES = 5
"""JSON files of a folder that are opened to detect labelme."""


@dataclass(frozen=True)
class LabelmeSource:
    """A folder of labelme files.

    Attributes:
        labels: The folder of the files.
        folder: The dataset, which contains all images; image names are relative to it.
        part: "train" or "val" if the files must be divided.
    """

    labels: Path
    folder: Path
    part: str | None = None

    def classes(self) -> ClassList:
        """Returns the labels of all shapes, with ids that count from 1."""
        names = labelme.read_class_names(self.labels)
        return ClassList(names, tuple(range(1, len(names) + 1)))

    def read_instance_table(self, names: tuple[str, ...], issues: LabelIssues, max_pixels: int) -> InstanceTable:
        """Reads the table of this split."""
        selector = build_selector(self.part)
        return InstanceTable(*labelme.read_labelme(self.labels, names, issues, max_pixels, selector, self.folder))


def detect_instance_format(
    path: str, train: str | None = None, val: str | None = None
) -> DetectedFormat[BoxSource | LabelmeSource]:
    """Detects the format and the splits of an instance dataset: as `detect_format`, or a folder of labelme files.

    A labelme dataset has files in the folders train and val, in the dataset's folder, or in one of its subfolders; a
    tenth of the images is held out if there are no splits.
    """
    root = Path(path)
    folders = {split: root / (name or split) for split, name in (("train", train), ("val", val))}
    if all(_is_labelme_folder(folder) for folder in folders.values()):
        sources = {
            split: LabelmeSource(folder, root if folder.is_relative_to(root) else folder)
            for split, folder in folders.items()
        }
        return DetectedFormat(dict(sources))
    if _is_labelme_folder(root):
        return _hold_out(root, root)
    try:
        detected = detect_format(path, train, val)
    except DataError:
        subfolders = (
            [folder for folder in sorted(root.iterdir()) if _is_labelme_folder(folder)] if root.is_dir() else []
        )
        if len(subfolders) != 1:
            raise
        return _hold_out(subfolders[0], root)
    return DetectedFormat(dict(detected.splits), detected.notes)


def _hold_out(labels: Path, root: Path) -> DetectedFormat[BoxSource | LabelmeSource]:
    return DetectedFormat({part: LabelmeSource(labels, root, part) for part in ("train", "val")}, (HOLD_OUT_NOTE,))


def read_instance_table(
    source: FileBoxSource, boxes: BoxTable, masks: bool, skeleton: Skeleton | None, issues: LabelIssues
) -> InstanceTable:
    """Reads the masks and keypoints of boxes that were read before; objects without them are skipped.

    Args:
        source: The source of the boxes.
        boxes: All or some of its boxes.
        masks: Read masks.
        skeleton: The keypoints to read; None reads none.
        issues: Reports invalid and missing masks and keypoints.

    Raises:
        DataError: The format does not hold them, or something is wrong and the policy is `fail`.
    """
    table = InstanceTable(boxes, None, None, skeleton)
    if masks:
        segmentations, keep = _read_masks(source, boxes, issues)
        table = InstanceTable(boxes, segmentations, None, skeleton).select(keep)
    if skeleton is not None:
        if not isinstance(source, CocoSource):
            raise DataError("this format does not hold keypoints", file=source.folder, hint="Give a COCO JSON.")
        keypoints, keep = coco_objects.read_keypoints(source.file, table.boxes, skeleton, issues)
        kept_masks = None if table.masks is None else table.masks.take(np.flatnonzero(keep))
        table = InstanceTable(table.boxes, kept_masks, keypoints, skeleton).select(keep)
    return table


def _read_masks(source: FileBoxSource, boxes: BoxTable, issues: LabelIssues) -> tuple[Segmentations, np.ndarray]:
    if isinstance(source, CocoSource):
        return coco_objects.read_masks(source.file, boxes, issues)
    if isinstance(source, YoloSource):
        return yolo_masks.read_masks(source.dataset, boxes, issues)
    assert isinstance(source, VocSource)
    hint = "Pascal VOC XML holds boxes only: use the task detection, or convert the masks to COCO JSON."
    raise DataError("this format does not hold masks", file=source.folder, hint=hint)


def _is_labelme_folder(folder: Path) -> bool:
    files = list_files(folder, "*.json")[:PROBED_FILES] if folder.is_dir() else []
    count = sum(map(labelme.is_labelme, files))
    return 2 * count > len(files)
