"""What is looked for in a dataset of objects. No torch before a dataset is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densevision.checks import table
from densevision.checks.box_edits import LabelmeEdit, edit_of
from densevision.checks.boxes import BOXES, judge_boxes, judge_classes
from densevision.checks.objects import KEYPOINTS, OBJECTS, judge_keypoints, judge_masks, stated_areas
from densevision.checks.pictures import Album
from densevision.checks.survey import FindingsOfSplits, Survey
from densevision.checks.table import of_kind
from densevision.data.box_sources import CocoSource, FileSource
from densevision.data.scene_splits import SceneSource
from densevision.io.findings import Findings, Kind
from densevision.tasks.instance.config import InstanceConfig

if TYPE_CHECKING:
    from densevision.data.instance_sets import InstanceTable
    from densevision.data.instance_sources import LabelmeSource

CHECKS = (
    *table.SHARED,
    *table.CLASSES,
    *BOXES,
    *OBJECTS,
    *KEYPOINTS,
    *map(of_kind, (Kind.MASK_ABSENT, Kind.MASK_EMPTY, Kind.MASK_SIZE, Kind.OUTLINE_SHORT, Kind.KEYPOINT_COUNT)),
)
"""All that `check` may find."""


def check(config: InstanceConfig, survey: Survey) -> None:
    """Looks at every picture, box, mask and keypoint.

    Raises:
        DataError: The dataset is not recognised, or cannot be read at all.
    """
    from densevision.data.instance_sources import recognise_objects

    found = recognise_objects(config.data.path or "", config.data.train, config.data.val)
    survey.notes += found.notes
    album, counts, names = Album(survey), {}, ()
    findings = FindingsOfSplits()
    for split, source in found.splits.items():
        if isinstance(source, SceneSource):
            survey.counted(split, scenes=source.count)
            continue
        objects = _read(config, source, findings, survey)
        boxes, folder = objects.boxes, Path(source.folder)
        names = boxes.names
        album.look(split, [folder / boxes.files[row] for row in range(len(boxes))])
        survey.counted(split, objects=len(boxes.labels))
        judge_boxes(survey, boxes, folder)
        if objects.masks is not None:
            stated = stated_areas(source.file) if isinstance(source, CocoSource) else {}
            judge_masks(survey, boxes, objects.masks, folder, stated, f"{split}: masks")
        if isinstance(source, CocoSource):
            sizes = {id: (height, width) for id, (height, width) in zip(boxes.image_ids.tolist(), boxes.sizes.tolist())}
            judge_keypoints(survey, source.file, sizes)
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    survey.take(findings)
    album.judge()
    if counts:
        judge_classes(survey, names, counts, Path(config.data.path or ""))


def _read(
    config: InstanceConfig, source: FileSource | LabelmeSource, findings: Findings, survey: Survey
) -> InstanceTable:
    """The objects of a split that can be used; what is wrong with the others is found."""
    from densevision.data.instance_sources import LabelmeSource, read_objects
    from densevision.io.coco_objects import read_skeleton

    limit = config.data.max_pixels
    if isinstance(source, LabelmeSource):
        objects = source.read_objects(source.classes().names, findings, limit)
        survey.repair.edit(source.folder, lambda: LabelmeEdit(source.folder)).keep(objects.boxes)
    else:
        skeleton = read_skeleton(source.file) if config.keypoints and isinstance(source, CocoSource) else None
        objects = read_objects(source, source.read(findings, limit), config.masks, skeleton, findings)
        edit_of(survey.repair, source).keep(objects.boxes)
    return objects
