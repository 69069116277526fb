"""What masks and keypoints tell beside the boxes, areas and numbers that are stated of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.checks.catalog import Check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.formats.coco import whole
from densevision.io.box_table import BoxTable
from densevision.io.json_stream import stream_json
from densevision.io.segmentations import OUTLINES, Segmentations
from densevision.ops import masks as runs
from densevision.ops.view import Size

AREA_SHARE, AREA_PIXELS = 0.1, 16.0
"""A mask's area may differ from the stated one by this share of it, or by so many pixels where that is more."""
BOX_SHARE, BOX_PIXELS = 0.1, 3.0
"""A mask's tight box may differ from the stated box by this share of its longer side, or so many pixels."""
CORNERS = 1500
"""An outline of more corners is not looked through: comparing every edge with every other one grows too long."""

AREA = Check(
    "mask-area",
    "warning",
    "a mask whose area differs from the stated one",
    "Compute the area anew: it decides which objects count as small, medium or large.",
)
OFF_BOX = Check(
    "mask-off-box",
    "warning",
    "a mask that does not fill its box",
    "Look whether mask and box are of one object, and of one size of the image.",
)
CROSSED = Check(
    "polygon-crossed",
    "warning",
    "a polygon whose edges cross",
    "Draw it anew: what lies in the loops counts twice or not at all, as the tool pleases.",
)
POINT_OUTSIDE = Check(
    "keypoint-outside", "warning", "a visible keypoint outside the image", "Correct it, or mark it 0 (not labeled)."
)
POINT_FLAG = Check(
    "keypoint-flag",
    "error",
    "a keypoint whose visibility is not 0, 1 or 2",
    "Write 0 (not labeled), 1 (labeled, hidden) or 2 (visible).",
)
POINT_NUMBER = Check(
    "keypoint-number",
    "warning",
    "an object whose num_keypoints is not the number of its labeled keypoints",
    "Count them anew: objects with 0 are ignored when keypoints are judged.",
)
OBJECTS = (AREA, OFF_BOX, CROSSED)
KEYPOINTS = (POINT_OUTSIDE, POINT_FLAG, POINT_NUMBER)


def judge_masks(
    context: CheckContext, boxes: BoxTable, masks: Segmentations, folder: Path, stated: dict[int, float], title: str
) -> None:
    """Reports masks that differ from what is stated of them, and outlines that cross themselves.

    Args:
        survey: Where to.
        boxes: The objects.
        masks: Their masks.
        folder: Where the images' names start.
        stated: Origin of an object -> its stated area.
        title: Of the bar.
    """
    for image, found in enumerate(context.spread(_reader(boxes, masks, stated), range(len(boxes)), title)):
        for check, row, value in found:
            box = " ".join(f"{side:g}" for side in boxes.boxes[row].round(1).tolist())
            where = f"{boxes.names[boxes.labels[row]]} at {box}"
            context.add(check, folder / boxes.files[image], where, value)


def judge_keypoints(context: CheckContext, file: Path, sizes: dict[int, Size]) -> None:
    """Reports keypoints of a COCO json whose flags, places or numbers are wrong.

    Args:
        survey: Where to.
        file: The json.
        sizes: Image id -> size of the image; annotations of other images are left aside.
    """
    for key, index, entry in stream_json(file):
        if key != "annotations" or not isinstance(entry, dict) or _id_of_image(entry) not in sizes:
            continue
        values = entry.get("keypoints")
        if not isinstance(values, list) or len(values) % 3 or not all(type(x) in (int, float) for x in values):
            continue
        points = np.reshape(values, (-1, 3))
        field, flags = f"annotations[{index}].keypoints", points[:, 2]
        strange = ~np.isin(flags, (0, 1, 2))
        if strange.any():
            context.add(POINT_FLAG, file, field, f"visibility {flags[strange][0]:g}")
        height, width = sizes[entry["image_id"]]
        x, y = points[flags > 0, 0], points[flags > 0, 1]
        outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        if outside.any():
            context.add(POINT_OUTSIDE, file, field, f"{x[outside][0]:g}, {y[outside][0]:g} in {width} x {height}")
        number = entry.get("num_keypoints")
        if number is not None and number != int((flags > 0).sum()):
            value = f"{number} stated, {int((flags > 0).sum())} labeled"
            context.add(POINT_NUMBER, file, f"annotations[{index}].num_keypoints", value)


def stated_areas(file: Path) -> dict[int, float]:
    """Index of an annotation of a COCO json -> the area that it states."""
    return {
        index: float(entry["area"])
        for key, index, entry in stream_json(file)
        if key == "annotations" and isinstance(entry, dict) and type(entry.get("area")) in (int, float)
    }


def crosses(outline: np.ndarray) -> bool:
    """Whether two edges of a closed outline (n, 2) cross, rather than touch.

    >>> crosses(np.array([[0, 0], [4, 4], [4, 0], [0, 4]]))
    True
    """
    starts, ends = outline.astype(np.float64), np.roll(outline, -1, 0).astype(np.float64)
    if len(starts) < 4 or len(starts) > CORNERS:
        return False
    first = _side(starts[:, None], ends[:, None], starts[None]), _side(starts[:, None], ends[:, None], ends[None])
    opposite = first[0] * first[1] < 0
    return bool((opposite & opposite.T).any())


def _id_of_image(entry: dict[str, Any]) -> int | None:
    id = whole(entry.get("image_id"))
    return id if type(id) is int else None


def _reader(boxes: BoxTable, masks: Segmentations, stated: dict[int, float]) -> Callable[[int], list[Any]]:
    def read(image: int) -> list[tuple[Check, int, str | None]]:
        rows = range(int(boxes.offsets[image]), int(boxes.offsets[image + 1]))
        height, width = boxes.sizes[image].tolist()
        drawn = [masks.mask(row, (height, width)) for row in rows]
        found = []
        for row, area, tight in zip(rows, runs.areas(drawn).tolist(), runs.boxes(drawn)):
            found += _differences(boxes, row, area, tight, stated.get(int(boxes.origin[row])))
            if masks.kinds[row] == OUTLINES and any(map(crosses, masks.outlines(row))):
                found.append((CROSSED, row, None))
        return found

    return read


def _differences(
    boxes: BoxTable, row: int, area: float, tight: np.ndarray, stated: float | None
) -> Iterator[tuple[Check, int, str]]:
    if stated is not None and abs(area - stated) > max(AREA_SHARE * stated, AREA_PIXELS):
        yield AREA, row, f"{stated:g} stated, {area:g} found"
    box = boxes.boxes[row]
    off = float(np.abs(tight - box).max())
    if not boxes.crowd[row] and off > max(BOX_SHARE * float((box[2:] - box[:2]).max()), BOX_PIXELS):
        yield OFF_BOX, row, f"a side is off by {off:.1f} pixels"


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The sign of the turn from an edge to a point: 0 where the point is on its line."""
    edge, way = end - start, point - start
    return np.sign(edge[..., 0] * way[..., 1] - edge[..., 1] * way[..., 0])
