"""Masks and keypoints of objects on disk, for boxes that were read before."""

from __future__ import annotations

import numpy as np

from densevision.datasets.box_sources import CocoSource, FileBoxSource, ObjectSource, VocSource, YoloSource
from densevision.datasets.formats import coco_objects, yolo_masks
from densevision.datasets.instance_dataset import InstanceTable
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import LabelIssues
from densevision.io.segmentations import Segmentations
from densevision.ops.skeleton import Skeleton

__all__ = ["read_instance_table"]


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
    if isinstance(source, ObjectSource):
        return source.read_masks(boxes, issues)
    assert isinstance(source, VocSource)
    hint = "Pascal VOC XML holds boxes only: use the task detection, or convert the masks to COCO JSON."
    raise DataError("this format does not hold masks", file=source.folder, hint=hint)
