"""The checks of a dataset of objects, split by split: images, classes, boxes, and perhaps masks and keypoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import BoxSource, CocoSource, FileBoxSource
from densevision.datasets.checks.boxes import check_boxes, check_classes
from densevision.datasets.checks.context import CheckContext, SplitIssues
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.checks.objects import check_keypoints, check_masks, read_areas
from densevision.datasets.format_detection import DetectedFormat
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import LabelIssues
from densevision.io.segmentations import Segmentations
from densevision.run_config import DataConfig

__all__ = ["check_object_splits"]


def check_object_splits(
    dataset: DetectedFormat[BoxSource],
    data: DataConfig,
    context: CheckContext,
    read: Callable[[FileBoxSource, LabelIssues], tuple[BoxTable, Segmentations | None]],
    unit: str,
    has_keypoints: bool = False,
) -> None:
    """Checks every image and object.

    Args:
        dataset: The splits.
        data: Where they are.
        context: Takes findings, notes and counts.
        read: Reads the usable boxes of a split and their masks, and adds problems with the others to the issues.
        unit: What the counts call the objects.
        has_keypoints: Check the keypoints of COCO files.

    Raises:
        DataError: A split cannot be read at all.
    """
    context.notes += dataset.notes
    scanner, counts = ImageScanner(context), {}
    names: tuple[str, ...] = ()
    issues = SplitIssues()
    for split, source in dataset.splits.items():
        if isinstance(source, SceneSource):
            context.set_counts(split, scenes=source.count)
            continue
        boxes, masks = read(source, issues)
        folder, names = Path(source.folder), boxes.names
        scanner.scan(split, [folder / boxes.files[row] for row in range(len(boxes))])
        context.set_counts(split, **{unit: len(boxes.labels)})
        check_boxes(context, boxes, folder)
        if masks is not None:
            areas = read_areas(source.file) if isinstance(source, CocoSource) else {}
            check_masks(context, boxes, masks, folder, areas, f"{split}: masks")
        if has_keypoints and isinstance(source, CocoSource):
            sizes = zip(boxes.image_ids.tolist(), boxes.label_sizes.tolist())
            check_keypoints(context, source.file, {image_id: (height, width) for image_id, (height, width) in sizes})
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    context.add_issues(issues)
    scanner.check_images()
    if counts:
        check_classes(context, names, counts, Path(locate_dataset(data)))
