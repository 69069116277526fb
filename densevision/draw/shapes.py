"""Objects of an image: boxes, masks and keypoints, with labels that stay legible when they are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from densevision.draw.canvas import blend, canvas_of, line_width
from densevision.draw.colors import Color, class_color, shade
from densevision.draw.tags import Tag, write_tags

COVER = 0.45
"""Part of a mask's color in the pixels that it covers."""
FRACTION = 4
"""Bits of fraction in the coordinates that OpenCV is given."""

Box = tuple[float, float, float, float]


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] = (),
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """Outlines boxes in the colors of their classes, with class and score.

    Lines and letters grow with the image. Labels look for a place inside the image where they cover no other
    label, the surest object first; where there is none, the color alone tells the class. Small boxes are drawn over
    large ones. Boxes that are not finite are left out.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy in pixels, (0, 0) the corner of the image.
        labels: (N,) indices into `names`.
        names: Class names; a class without a name shows its index.
        scores: (N,) in [0, 1]; not written where all are 1, as truth has them.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    finite = np.flatnonzero(np.isfinite(boxes).all(1))
    areas = (boxes[finite, 2:] - boxes[finite, :2]).prod(1)
    colors = [class_color(label) for label in labels]
    line = line_width(canvas.shape[:2], len(boxes))
    for row in finite[np.argsort(-areas, kind="stable")]:
        _outline(canvas, boxes[row], colors[row], line)
    anchors = {int(row): tuple(boxes[row].tolist()) for row in finite}
    write_tags(canvas, _tags(anchors, colors, labels, names, scores))
    return canvas


def draw_masks(
    image: np.ndarray,
    masks: Iterable[np.ndarray],
    labels: np.ndarray,
    names: Sequence[str] = (),
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """Tints and outlines objects, with class and score; objects of one class differ in shade.

    The masks are taken one at a time, so a generator that decodes them keeps one in memory.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N arrays (H, W) of bool; an empty one draws nothing.
        labels: (N,) indices into `names`.
        names: Class names; a class without a name shows its index.
        scores: (N,) in [0, 1]; not written where all are 1, as truth has them.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    colors = _shades(labels)
    anchors: dict[int, Box] = {}
    contours = []
    for row, (mask, color) in enumerate(zip(masks, colors)):
        window = _window(mask)
        if window is None:
            continue
        rows, columns = window
        inside = np.ascontiguousarray(mask[window], bool)
        blend(canvas[window], color, COVER, inside)
        edges, _ = cv2.findContours(
            inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(columns.start, rows.start)
        )
        contours.append((edges, color))
        anchors[row] = (columns.start, rows.start, columns.stop, rows.stop)
    line = line_width(canvas.shape[:2], len(contours))
    for edges, color in contours:
        cv2.drawContours(canvas, edges, -1, color, line, cv2.LINE_AA)
    write_tags(canvas, _tags(anchors, colors, labels, names, scores))
    return canvas


def draw_keypoints(
    image: np.ndarray, points: np.ndarray, visible: np.ndarray, skeleton: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Draws the points of each object and the limbs between them, one color per object.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (N, K, 2) xy in pixels, (0, 0) the corner of the image.
        visible: (N, K) bool; other points, and limbs that end in them, are left out.
        skeleton: Pairs of indices into the K points that are joined by a limb.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    line = line_width(canvas.shape[:2]) + 1
    for row, (keypoint_names, seen) in enumerate(zip(points, visible)):
        seen = np.asarray(seen, bool) & np.isfinite(keypoint_names).all(1)
        at = {int(index): _fixed(keypoint_names[index]) for index in np.flatnonzero(seen)}
        color = class_color(row)
        for start, end in skeleton:
            if start in at and end in at:
                cv2.line(canvas, at[start], at[end], color, line, cv2.LINE_AA, FRACTION)
        for joint in at.values():
            cv2.circle(canvas, joint, (line + 1) << FRACTION, (255, 255, 255), -1, cv2.LINE_AA, FRACTION)
            cv2.circle(canvas, joint, line << FRACTION, color, -1, cv2.LINE_AA, FRACTION)
    return canvas


def _outline(canvas: np.ndarray, box: np.ndarray, color: Color, line: int) -> None:
    cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), color, line, cv2.LINE_AA, FRACTION)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """A point in OpenCV's fixed-point numbers, whose zero is the center of the first pixel."""
    limit = 1 << 20
    x, y = np.rint((np.clip(point, -limit, limit) - 0.5) * (1 << FRACTION)).astype(int).tolist()
    return x, y


def _window(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The least window that holds a mask, as slices of rows and columns; none where it is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _shades(labels: np.ndarray) -> list[Color]:
    """A color per object: that of its class, varied from one object of the class to the next."""
    seen: dict[int, int] = {}
    colors = []
    for label in map(int, labels):
        colors.append(shade(class_color(label), seen.get(label, 0)))
        seen[label] = seen.get(label, 0) + 1
    return colors


def _tags(
    anchors: dict[int, Box],
    colors: Sequence[Color],
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None,
) -> list[Tag]:
    """One tag per object that was drawn."""
    truth = scores is None or bool((np.asarray(scores) == 1).all())
    tags = []
    for row, box in anchors.items():
        label = int(labels[row])
        name = names[label] if label < len(names) else str(label)
        weight = 1.0 if scores is None else float(scores[row])
        tags.append(Tag(name, "" if truth else f"{weight:.2f}", colors[row], box, weight))
    return tags
