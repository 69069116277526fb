"""Polygons of YOLO label files, for the boxes that were read of them."""

from __future__ import annotations

import numpy as np

from densevision.datasets.formats.coco_objects import add_outlines
from densevision.datasets.formats.yolo import YoloDataset, label_path
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import Findings, Kind
from densevision.io.lines import read_lines
from densevision.io.segmentations import Gathered, Segmentations


def read_masks(dataset: YoloDataset, table: BoxTable, findings: Findings) -> tuple[Segmentations, np.ndarray]:
    """The masks of a table's objects: each line holds a class and x y x y ... as parts of the image.

    Args:
        dataset: From which the table was read.
        table: Its boxes.
        findings: Decides about what is wrong, such as a line that holds a box only.

    Returns:
        The masks of the objects that stay, and (M,) bool: which do.
    """
    gathered, keep = Gathered(), np.zeros(len(table.labels), bool)
    for image, (height, width) in enumerate(table.sizes.tolist()):
        rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
        file = dataset.root / label_path(table.files[image])
        lines = read_lines(file) if rows else []
        for row in rows:
            number = int(table.origin[row])
            values = [float(value) for value in lines[number - 1].split()[1:]]
            if len(values) == 4 or dataset.keypoints:
                keep[row] = findings.add(Kind.MASK_ABSENT, file, f"line {number}", lines[number - 1])
                continue
            outline = (np.reshape(values, (-1, 2)) * (width, height)).ravel().tolist()
            keep[row] = add_outlines(gathered, [outline], (height, width), f"line {number}", file, findings)
    return gathered.packed(), keep
