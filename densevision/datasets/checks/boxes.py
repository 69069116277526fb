"""What the boxes of a dataset tell when they are laid beside their images and each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.context import CheckContext
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import Kind

TINY_SIDE = 2.0
"""Pixels; a box with a shorter side is tiny."""
HUGE_SHARE = 0.95
"""Of its image; a box that covers more is huge."""
SAME = 0.9
"""Intersection over union from which two boxes of a class are one thing."""
FEW = 10
"""Examples of a class in training below which it is rare."""
MANY_TIMES = 100
"""How much more frequent than the rarest a class may be."""

TINY = Check(
    "box-tiny",
    "warning",
    f"a box with a side of less than {TINY_SIDE:g} pixels",
    "Remove it: no network sees it, and it is often a slip of the mouse.",
)
HUGE = Check(
    "box-huge",
    "note",
    f"a box that covers more than {HUGE_SHARE:.0%} of its image",
    "Look whether the image, not an object, was labeled.",
)
NEARLY_TWICE = Check(
    "box-nearly-twice",
    "warning",
    f"two boxes of one class that overlap by more than {SAME:g}",
    "Remove one: it is most likely one thing that was labeled twice.",
)
BOXES = (
    *(TINY, HUGE, NEARLY_TWICE),
    *map(
        of_kind,
        (
            *(Kind.BOX_OUTSIDE, Kind.BOX_AWAY, Kind.BOX_REVERSED, Kind.BOX_FLAT, Kind.BOX_NOT_FINITE, Kind.BOX_TWICE),
            *(Kind.CLASS_ABSENT, Kind.ENTRY_MALFORMED, Kind.LINE_MALFORMED, Kind.FILE_MALFORMED, Kind.IMAGE_SIZE),
            *(Kind.ANNOTATION_ID_TWICE, Kind.IMAGE_ID_TWICE, Kind.IMAGE_ID_ABSENT, Kind.NAME_ESCAPES),
            *(Kind.LABELS_MISSING, Kind.IMAGE_ABSENT, Kind.AREA_IMPOSSIBLE),
        ),
    ),
)
"""What `judge_boxes` and the readers of boxes report."""


def judge_boxes(context: CheckContext, boxes: BoxTable, folder: Path) -> None:
    """Reports boxes that are tiny, huge, or nearly the same as another one."""
    sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    images = np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets))
    areas = boxes.sizes[images].astype(np.float64).prod(1)
    for check, rows in (
        (TINY, sides.min(1, initial=np.inf) < TINY_SIDE),
        (HUGE, sides.prod(1) > HUGE_SHARE * areas),
        (NEARLY_TWICE, _nearly_twice(boxes, images)),
    ):
        for row in np.flatnonzero(rows).tolist():
            box = " ".join(f"{value:g}" for value in boxes.boxes[row].round(2).tolist())
            field = f"{boxes.names[boxes.labels[row]]} at {box}"
            context.add(check, folder / boxes.files[int(images[row])], field)


def judge_classes(
    context: CheckContext, names: Sequence[str], counts: dict[str, np.ndarray], where: Path, what: str = "objects"
) -> None:
    """Reports classes that are unused, rare, in one split only, or far more frequent than others.

    Args:
        survey: Where to.
        names: Class names.
        counts: Split -> (len(names),) how much of each class is there.
        where: The dataset.
        what: What was counted.
    """
    total = np.sum(list(counts.values()), axis=0)
    train = counts.get("train", total)
    for index, name in enumerate(names):
        if not total[index]:
            context.add(table.UNUSED, where, name, f"no {what}")
            continue
        absent = [split for split, count in counts.items() if not count[index]]
        if absent:
            context.add(table.ABSENT, where, name, f"not in {absent[0]}")
        if what == "objects" and 0 < train[index] < FEW:
            context.add(table.RARE, where, name, f"{int(train[index])} in training")
    used = np.flatnonzero(train)
    if len(used) > 1:
        most, least = used[train[used].argmax()], used[train[used].argmin()]
        if train[most] > MANY_TIMES * train[least]:
            value = f"{train[most] / train[least]:,.0f} times as many {what} as {names[least]}"
            context.add(table.IMBALANCE, where, names[most], value)


def _nearly_twice(boxes: BoxTable, images: np.ndarray) -> np.ndarray:
    """(M,) bool: boxes that an earlier one of their class and image nearly covers, and that nearly cover it."""
    flags = np.zeros(len(boxes.labels), bool)
    for start, end in zip(boxes.offsets[:-1].tolist(), boxes.offsets[1:].tolist()):
        if end - start > 1:
            part, labels = boxes.boxes[start:end], boxes.labels[start:end]
            same = (labels[:, None] == labels) & ~(boxes.crowd[start:end, None] | boxes.crowd[start:end])
            flags[start:end] = (np.tril(same, -1) & (_overlaps(part) > SAME)).any(1)
    return flags


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """(n, n) intersection over union."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return common / (areas[:, None] + areas - common)
