"""Checks of box datasets. No torch here."""

from __future__ import annotations

from densevision.datasets.box_sources import FileBoxSource
from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import get_box_edit
from densevision.datasets.checks.boxes import BOX_CHECKS
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.object_splits import check_object_splits
from densevision.datasets.format_detection import detect_format
from densevision.datasets.shards.location import locate_dataset
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import LabelIssues
from densevision.tasks.detection.config import DetectionConfig

__all__ = ["CHECKS", "check"]

CHECKS = (*catalog.FILE_CHECKS, *catalog.CLASS_CHECKS, *BOX_CHECKS)
"""All checks that `check` runs."""


def check(config: DetectionConfig, context: CheckContext) -> None:
    """Checks every image and box.

    Raises:
        DataError: The dataset is not recognized, or cannot be read at all.
    """
    data = config.data

    def read(source: FileBoxSource, issues: LabelIssues) -> tuple[BoxTable, None]:
        boxes = source.read(issues, data.max_pixels)
        get_box_edit(context.fix_plan, source).add_table(boxes)
        return boxes, None

    check_object_splits(detect_format(locate_dataset(data), data.train, data.val), data, context, read, "boxes")
