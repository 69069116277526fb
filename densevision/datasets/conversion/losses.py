"""Counts what formats of objects cannot represent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from densevision.datasets.conversion.objects import (
    ObjectSplit,
    collect_categories,
    count_category_ids,
    count_image_ids,
)
from densevision.datasets.conversion.report import ConversionReport
from densevision.ops.masks import compute_areas, compute_boxes

__all__ = ["TOLERANCE", "count_annotation_losses", "count_ids_and_areas"]

TOLERANCE = 1.0
"""Pixels by which areas and boxes may differ from those of the target before they count as lost."""


def count_annotation_losses(
    splits: dict[str, ObjectSplit], report: ConversionReport, keeps_crowds: bool = False, keeps_boxes: bool = False
) -> dict[str, int]:
    """Counts what annotation programs do not hold: ids, stated areas, crowd regions, and boxes beside masks.

    Args:
        splits: The objects.
        report: Counts the losses.
        keeps_crowds: The format marks crowd regions.
        keeps_boxes: The format has boxes of their own beside masks.

    Returns:
        Class name -> category id.
    """
    for objects in splits.values():
        if not keeps_crowds:
            report.add("crowd regions", int(objects.boxes.crowd.sum()))
        if objects.masks is not None and not keeps_boxes:
            rows = ((row, objects.size(image)) for image in range(len(objects.boxes)) for row in objects.rows(image))
            bounds = compute_boxes([objects.masks.mask(row, size) for row, size in rows])
            differences = np.abs(bounds - objects.boxes.boxes).max(1, initial=0)
            report.add("boxes that differ from their masks", int((differences > TOLERANCE).sum()))
        count_ids_and_areas(objects, report)
    categories = collect_categories(splits)
    count_category_ids(categories.values(), 1, report)
    return categories


def count_ids_and_areas(objects: ObjectSplit, report: ConversionReport) -> None:
    """Counts image ids that are not 1, 2, ..., and stated areas that differ from those of masks or boxes."""
    count_image_ids(objects, report)
    report.add("stated areas", sum(_compare_areas(objects)))


def _compare_areas(objects: ObjectSplit) -> Iterator[bool]:
    """Yields whether the stated area of each object differs from that of its mask or box."""
    for image in range(len(objects.boxes)):
        for row in objects.rows(image):
            stated_area = objects.stated_areas[row]
            if objects.masks is not None:
                area = compute_areas([objects.masks.mask(row, objects.size(image))])[0]
            else:
                area = float((objects.boxes.boxes[row, 2:] - objects.boxes.boxes[row, :2]).prod())
            yield bool(not np.isnan(stated_area) and abs(stated_area - area) > TOLERANCE)
