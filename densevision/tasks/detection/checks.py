"""What is looked for in a dataset of boxes. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.box_edits import edit_of
from densevision.datasets.checks.boxes import BOXES, judge_boxes, judge_classes
from densevision.datasets.checks.context import CheckContext, FindingsOfSplits
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.format_detection import detect_format
from densevision.datasets.scene_splits import SceneSource
from densevision.tasks.detection.config import DetectionConfig

CHECKS = (*table.SHARED, *table.CLASSES, *BOXES)
"""All that `check` may find."""


def check(config: DetectionConfig, context: CheckContext) -> None:
    """Looks at every image and box.

    Raises:
        DataError: The dataset is not recognized, or cannot be read at all.
    """
    found = detect_format(config.data.path or "", config.data.train, config.data.val)
    context.notes += found.notes
    scanner, counts, names = ImageScanner(context), {}, ()
    findings = FindingsOfSplits()
    for split, source in found.splits.items():
        if isinstance(source, SceneSource):
            context.counted(split, scenes=source.count)
            continue
        boxes = source.read(findings, config.data.max_pixels)
        folder, names = Path(source.folder), boxes.names
        edit_of(context.repair, source).keep(boxes)
        scanner.look(split, [folder / boxes.files[row] for row in range(len(boxes))])
        context.counted(split, boxes=len(boxes.labels))
        judge_boxes(context, boxes, folder)
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    context.take(findings)
    scanner.judge()
    if counts:
        judge_classes(context, names, counts, Path(config.data.path or ""))
