"""Polygons of YOLO label files, for boxes that were read before."""

from __future__ import annotations

import numpy as np

from densevision.datasets.formats.coco_objects import check_polygons
from densevision.datasets.formats.yolo import YoloDataset, get_label_path
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import parse_decimals, read_lines
from densevision.io.segmentations import SegmentationBuilder, Segmentations

__all__ = ["read_masks"]


def read_masks(dataset: YoloDataset, table: BoxTable, issues: LabelIssues) -> tuple[Segmentations, np.ndarray]:
    """Reads the masks of a table: lines of a class and a polygon x y x y ... as fractions of the image.

    Args:
        dataset: The dataset of the table.
        table: The boxes.
        issues: Reports problems, such as a line that holds only a box.

    Returns:
        The masks of the objects that stay, and (M,) bool, which objects stay.
    """
    builder, keep = SegmentationBuilder(), np.zeros(len(table.labels), bool)
    for image, (height, width) in enumerate(table.sizes.tolist()):
        rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
        file = dataset.root / get_label_path(table.files[image])
        lines = read_lines(file) if rows else []
        for row in rows:
            number = int(table.origin[row])
            field, line = f"line {number}", lines[number - 1]
            values = parse_decimals(line.split()[1:])
            if len(values) == 4 or dataset.keypoints:
                keep[row] = issues.add(IssueKind.MASK_ABSENT, file, field, line)
                continue
            polygon = (np.reshape(values, (-1, 2)) * (width, height)).ravel().tolist()
            polygons = check_polygons([polygon], (height, width), field, file, issues)
            if polygons is not None:
                builder.add_polygons(polygons)
                keep[row] = True
    return builder.build(), keep
