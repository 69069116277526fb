"""Checks of instance datasets. No torch before a dataset is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densevision.datasets.box_sources import CocoSource, FileBoxSource
from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import get_box_edit
from densevision.datasets.checks.boxes import BOX_CHECKS, check_boxes, check_classes
from densevision.datasets.checks.catalog import make_check
from densevision.datasets.checks.context import CheckContext, SplitIssues
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.checks.objects import KEYPOINT_CHECKS, MASK_CHECKS, check_keypoints, check_masks, read_areas
from densevision.datasets.format_detection import detect_format
from densevision.datasets.splits import SceneSource
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.tasks.instance.config import InstanceConfig

if TYPE_CHECKING:
    from densevision.datasets.instance_dataset import InstanceTable

__all__ = ["CHECKS", "check"]

CHECKS = (
    *catalog.FILE_CHECKS,
    *catalog.CLASS_CHECKS,
    *BOX_CHECKS,
    *MASK_CHECKS,
    *KEYPOINT_CHECKS,
    *map(
        make_check,
        (
            IssueKind.MASK_ABSENT,
            IssueKind.MASK_EMPTY,
            IssueKind.MASK_SIZE,
            IssueKind.OUTLINE_SHORT,
            IssueKind.KEYPOINT_COUNT,
            IssueKind.FILE_IGNORED,
            IssueKind.SHAPE_WITHOUT_AREA,
        ),
    ),
)
"""All checks that `check` runs."""


def check(config: InstanceConfig, context: CheckContext) -> None:
    """Checks every image, box, mask and keypoint.

    Raises:
        DataError: The dataset is not recognized, or cannot be read at all.
    """
    data = config.data
    dataset = detect_format(data.path or "", data.train, data.val, needs_masks=config.has_masks)
    context.notes += dataset.notes
    scanner, counts = ImageScanner(context), {}
    names: tuple[str, ...] = ()
    issues = SplitIssues()
    for split, source in dataset.splits.items():
        if isinstance(source, SceneSource):
            context.set_counts(split, scenes=source.count)
            continue
        objects = _read_objects(config, source, issues, context)
        boxes, folder = objects.boxes, Path(source.folder)
        names = boxes.names
        scanner.scan(split, [folder / boxes.files[row] for row in range(len(boxes))])
        context.set_counts(split, objects=len(boxes.labels))
        check_boxes(context, boxes, folder)
        if objects.masks is not None:
            areas = read_areas(source.file) if isinstance(source, CocoSource) else {}
            check_masks(context, boxes, objects.masks, folder, areas, f"{split}: masks")
        if isinstance(source, CocoSource):
            sizes = zip(boxes.image_ids.tolist(), boxes.label_sizes.tolist())
            check_keypoints(context, source.file, {image_id: (height, width) for image_id, (height, width) in sizes})
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    context.add_issues(issues)
    scanner.check_images()
    if counts:
        check_classes(context, names, counts, Path(config.data.path or ""))


def _read_objects(
    config: InstanceConfig, source: FileBoxSource, issues: LabelIssues, context: CheckContext
) -> InstanceTable:
    """The usable objects of a split; problems with the others are added to the issues."""
    from densevision.datasets.formats.coco_objects import read_skeleton
    from densevision.datasets.instance_sources import read_instance_table

    limit = config.data.max_pixels
    skeleton = read_skeleton(source.file) if config.has_keypoints and isinstance(source, CocoSource) else None
    objects = read_instance_table(source, source.read(issues, limit), config.has_masks, skeleton, issues)
    get_box_edit(context.fix_plan, source).add_table(objects.boxes)
    return objects
