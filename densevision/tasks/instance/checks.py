"""Checks of instance datasets. No torch before a dataset is opened."""

from __future__ import annotations

from densevision.datasets.box_sources import CocoSource, FileBoxSource
from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import get_box_edit
from densevision.datasets.checks.boxes import BOX_CHECKS
from densevision.datasets.checks.catalog import make_check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.object_splits import check_object_splits
from densevision.datasets.checks.objects import KEYPOINT_CHECKS, MASK_CHECKS
from densevision.datasets.format_detection import detect_format
from densevision.datasets.shards.location import locate_dataset
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.segmentations import Segmentations
from densevision.tasks.instance.config import InstanceConfig

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
    dataset = detect_format(locate_dataset(data), data.train, data.val, needs_masks=config.has_masks)

    def read(source: FileBoxSource, issues: LabelIssues) -> tuple[BoxTable, Segmentations | None]:
        from densevision.datasets.formats.coco_objects import read_skeleton
        from densevision.datasets.instance_sources import read_instance_table

        boxes = source.read(issues, data.max_pixels)
        skeleton = read_skeleton(source.file) if config.has_keypoints and isinstance(source, CocoSource) else None
        objects = read_instance_table(source, boxes, config.has_masks, skeleton, issues)
        get_box_edit(context.fix_plan, source).add_table(objects.boxes)
        return objects.boxes, objects.masks

    check_object_splits(dataset, data, context, read, "objects", has_keypoints=True)
