"""What is looked for in a dataset of objects. No torch before a dataset is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densevision.datasets.box_sources import CocoSource, FileSource
from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.box_edits import LabelmeEdit, edit_of
from densevision.datasets.checks.boxes import BOXES, judge_boxes, judge_classes
from densevision.datasets.checks.catalog import of_kind
from densevision.datasets.checks.context import CheckContext, FindingsOfSplits
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.checks.objects import KEYPOINTS, OBJECTS, judge_keypoints, judge_masks, stated_areas
from densevision.datasets.scene_splits import SceneSource
from densevision.io.label_issues import Findings, Kind
from densevision.tasks.instance.config import InstanceConfig

if TYPE_CHECKING:
    from densevision.datasets.instance_sets import InstanceTable
    from densevision.datasets.instance_sources import LabelmeSource

CHECKS = (
    *table.SHARED,
    *table.CLASSES,
    *BOXES,
    *OBJECTS,
    *KEYPOINTS,
    *map(of_kind, (Kind.MASK_ABSENT, Kind.MASK_EMPTY, Kind.MASK_SIZE, Kind.OUTLINE_SHORT, Kind.KEYPOINT_COUNT)),
)
"""All that `check` may find."""


def check(config: InstanceConfig, context: CheckContext) -> None:
    """Looks at every image, box, mask and keypoint.

    Raises:
        DataError: The dataset is not recognized, or cannot be read at all.
    """
    from densevision.datasets.instance_sources import detect_object_format

    found = detect_object_format(config.data.path or "", config.data.train, config.data.val)
    context.notes += found.notes
    scanner, counts, names = ImageScanner(context), {}, ()
    findings = FindingsOfSplits()
    for split, source in found.splits.items():
        if isinstance(source, SceneSource):
            context.counted(split, scenes=source.count)
            continue
        objects = _read(config, source, findings, context)
        boxes, folder = objects.boxes, Path(source.folder)
        names = boxes.names
        scanner.look(split, [folder / boxes.files[row] for row in range(len(boxes))])
        context.counted(split, objects=len(boxes.labels))
        judge_boxes(context, boxes, folder)
        if objects.masks is not None:
            stated = stated_areas(source.file) if isinstance(source, CocoSource) else {}
            judge_masks(context, boxes, objects.masks, folder, stated, f"{split}: masks")
        if isinstance(source, CocoSource):
            sizes = {id: (height, width) for id, (height, width) in zip(boxes.image_ids.tolist(), boxes.sizes.tolist())}
            judge_keypoints(context, source.file, sizes)
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    context.take(findings)
    scanner.judge()
    if counts:
        judge_classes(context, names, counts, Path(config.data.path or ""))


def _read(
    config: InstanceConfig, source: FileSource | LabelmeSource, findings: Findings, context: CheckContext
) -> InstanceTable:
    """The objects of a split that can be used; what is wrong with the others is found."""
    from densevision.datasets.formats.coco_objects import read_skeleton
    from densevision.datasets.instance_sources import LabelmeSource, read_objects

    limit = config.data.max_pixels
    if isinstance(source, LabelmeSource):
        objects = source.read_objects(source.classes().names, findings, limit)
        context.repair.edit(source.folder, lambda: LabelmeEdit(source.folder)).keep(objects.boxes)
    else:
        skeleton = read_skeleton(source.file) if config.keypoints and isinstance(source, CocoSource) else None
        objects = read_objects(source, source.read(findings, limit), config.masks, skeleton, findings)
        edit_of(context.repair, source).keep(objects.boxes)
    return objects
