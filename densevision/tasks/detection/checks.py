"""Checks of box datasets. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import get_box_edit
from densevision.datasets.checks.boxes import BOX_CHECKS, check_boxes, check_classes
from densevision.datasets.checks.context import CheckContext, SplitIssues
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.format_detection import detect_format
from densevision.datasets.splits import SceneSource
from densevision.tasks.detection.config import DetectionConfig

__all__ = ["CHECKS", "check"]

CHECKS = (*catalog.FILE_CHECKS, *catalog.CLASS_CHECKS, *BOX_CHECKS)
"""All checks that `check` runs."""


def check(config: DetectionConfig, context: CheckContext) -> None:
    """Checks every image and box.

    Raises:
        DataError: The dataset is not recognized, or cannot be read at all.
    """
    dataset = detect_format(config.data.path or "", config.data.train, config.data.val)
    context.notes += dataset.notes
    scanner, counts = ImageScanner(context), {}
    names: tuple[str, ...] = ()
    issues = SplitIssues()
    for split, source in dataset.splits.items():
        if isinstance(source, SceneSource):
            context.set_counts(split, scenes=source.count)
            continue
        boxes = source.read(issues, config.data.max_pixels)
        folder, names = Path(source.folder), boxes.names
        get_box_edit(context.fix_plan, source).add_table(boxes)
        scanner.scan(split, [folder / boxes.files[row] for row in range(len(boxes))])
        context.set_counts(split, boxes=len(boxes.labels))
        check_boxes(context, boxes, folder)
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    context.add_issues(issues)
    scanner.check_images()
    if counts:
        check_classes(context, names, counts, Path(config.data.path or ""))
