"""Checks of boxes and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.context import CheckContext
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import IssueKind

__all__ = ["BOX_CHECKS", "check_boxes", "check_classes", "flag_duplicates"]

TINY_SIDE = 2.0
"""Side in pixels below which a box is tiny."""
HUGE_SHARE = 0.95
"""Share of the image's area above which a box is huge."""
DUPLICATE_IOU = 0.9
"""Intersection over union above which two boxes of a class are near duplicates."""
BLOCK, MAX_COMPARED = 256, 4096
"""Boxes that are compared at a time, and the number of others that they are compared with."""
RARE_COUNT = 10
"""Examples in training below which a class is rare."""
IMBALANCE_RATIO = 100
"""Ratio of the most to the least frequent class above which an imbalance is reported."""

TINY = Check(
    "box-tiny",
    "warning",
    f"a box with a side of less than {TINY_SIDE:g} pixels",
    "Remove it: it is too small to be detected, and often an accidental click.",
)
HUGE = Check(
    "box-huge",
    "note",
    f"a box that covers more than {HUGE_SHARE:.0%} of its image",
    "Check whether it labels the image instead of an object.",
)
NEAR_DUPLICATE = Check(
    "box-near-duplicate",
    "warning",
    f"two boxes of one class that overlap by more than {DUPLICATE_IOU:g}",
    "Remove one: most likely one object was labeled twice.",
)
READER_KINDS = (
    IssueKind.BOX_OUTSIDE,
    IssueKind.BOX_AWAY,
    IssueKind.BOX_REVERSED,
    IssueKind.BOX_FLAT,
    IssueKind.BOX_NOT_FINITE,
    IssueKind.BOX_DUPLICATE,
    IssueKind.CLASS_ABSENT,
    IssueKind.ENTRY_MALFORMED,
    IssueKind.LINE_MALFORMED,
    IssueKind.FILE_MALFORMED,
    IssueKind.IMAGE_SIZE,
    IssueKind.LABELS_TURNED,
    IssueKind.ORIENTATION_UNCLEAR,
    IssueKind.ANNOTATION_ID_DUPLICATE,
    IssueKind.IMAGE_ID_DUPLICATE,
    IssueKind.IMAGE_ID_ABSENT,
    IssueKind.NAME_ESCAPES,
    IssueKind.LABELS_MISSING,
    IssueKind.IMAGE_ABSENT,
    IssueKind.AREA_IMPOSSIBLE,
    IssueKind.FILE_HIDDEN,
    IssueKind.IMAGE_FRAMES,
)
BOX_CHECKS = (TINY, HUGE, NEAR_DUPLICATE, *map(make_check, READER_KINDS))
"""What `check_boxes` and the readers of boxes report."""


def check_boxes(context: CheckContext, boxes: BoxTable, folder: Path) -> None:
    """Reports boxes that are tiny, huge, or near duplicates.

    Args:
        context: Collects the findings.
        boxes: The boxes of a split.
        folder: The folder of the images.
    """
    sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    images = np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets))
    areas = boxes.sizes[images].astype(np.float64).prod(1)
    for check, flags in (
        (TINY, sides.min(1, initial=np.inf) < TINY_SIDE),
        (HUGE, sides.prod(1) > HUGE_SHARE * areas),
        (NEAR_DUPLICATE, _flag_duplicates_by_image(boxes)),
    ):
        for row in np.flatnonzero(flags).tolist():
            box = " ".join(f"{value:g}" for value in boxes.boxes[row].round(2).tolist())
            field = f"{boxes.names[boxes.labels[row]]} at {box}"
            context.add(check, folder / boxes.files[int(images[row])], field)


def check_classes(
    context: CheckContext, names: Sequence[str], counts: dict[str, np.ndarray], data: Path, unit: str = "objects"
) -> None:
    """Reports classes that are unused, rare, in one split only, or far more frequent than others.

    Args:
        context: Collects the findings.
        names: Class names.
        counts: Split -> (len(names),) number of objects or pixels of each class.
        data: The dataset.
        unit: What is counted: "objects" or "pixels".
    """
    total = np.sum(list(counts.values()), axis=0)
    train = counts.get("train", total)
    for index, name in enumerate(names):
        if not total[index]:
            context.add(catalog.CLASS_UNUSED, data, name, f"no {unit}")
            continue
        splits_without = [split for split, count in counts.items() if not count[index]]
        if splits_without:
            context.add(catalog.CLASS_IN_ONE_SPLIT, data, name, f"not in {splits_without[0]}")
        if unit == "objects" and 0 < train[index] < RARE_COUNT:
            context.add(catalog.CLASS_RARE, data, name, f"{int(train[index])} in training")
    used = np.flatnonzero(train)
    if len(used) > 1:
        most, least = used[train[used].argmax()], used[train[used].argmin()]
        if train[most] > IMBALANCE_RATIO * train[least]:
            value = f"{train[most] / train[least]:,.0f} times as many {unit} as {names[least]}"
            context.add(catalog.CLASS_IMBALANCE, data, names[most], value)


def flag_duplicates(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Flags boxes whose intersection over union with an earlier box exceeds a threshold.

    The left sides of two such boxes differ by less than 1 / threshold - 1 of either width. So boxes are sorted by their
    left sides, and each block is compared only with the boxes within that distance. Memory is bounded by `BLOCK` times
    `MAX_COMPARED` for any number of boxes.

    Args:
        boxes: (n, 4) xyxy.
        threshold: Positive.

    Returns:
        (n,) bool; False for boxes without area.
    """
    valid = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
    unique = np.sort(valid[np.unique(boxes[valid], axis=0, return_index=True)[1]])
    flags = np.zeros(len(boxes), bool)
    flags[np.setdiff1d(valid, unique)] = True
    flags[unique] = _flag_unique(boxes[unique], threshold)
    return flags


def _flag_unique(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Flags duplicates among boxes that have an area and differ."""
    order = np.argsort(boxes[:, 0], kind="stable")
    left, width = boxes[order, 0], boxes[order, 2] - boxes[order, 0]
    slack = width * (1 / threshold - 1) + 1e-6 * (1 + np.abs(left))
    first, last = np.searchsorted(left, left - slack), np.searchsorted(left, left + slack, "right")
    flags = np.zeros(len(boxes), bool)
    for start in range(0, len(boxes), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(boxes)))
        end = int(last[rows].max())
        for low in range(int(first[rows].min()), end, MAX_COMPARED):
            rows = rows[~flags[order[rows]]]
            if not len(rows):
                break
            others = order[low : min(low + MAX_COMPARED, end)]
            is_earlier = others < order[rows][:, None]
            iou = _compute_iou(boxes[order[rows]], boxes[others])
            flags[order[rows]] = (is_earlier & (iou > threshold)).any(1)
    return flags


def _flag_duplicates_by_image(boxes: BoxTable) -> np.ndarray:
    """Flags (M,) boxes that nearly equal an earlier one of their class and image; crowd regions are ignored."""
    flags = np.zeros(len(boxes.labels), bool)
    for start, end in zip(boxes.offsets[:-1].tolist(), boxes.offsets[1:].tolist()):
        if end - start > 1:
            part, labels = boxes.boxes[start:end].astype(np.float64), boxes.labels[start:end]
            single = np.flatnonzero(~boxes.crowd[start:end])
            for label in np.unique(labels[single]).tolist():
                rows = single[labels[single] == label]
                flags[start + rows] = flag_duplicates(part[rows], DUPLICATE_IOU)
    return flags


def _compute_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the (n, m) intersection over union; 0 where both boxes are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (high - low).clip(0).prod(2)
    areas, other_areas = ((side[:, 2:] - side[:, :2]).prod(1) for side in (boxes, others))
    union = areas[:, None] + other_areas - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
