"""Objects drawn on an image: boxes, masks and keypoints, with labels that stay legible when there are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from densevision.draw.canvas import blend_color, compute_line_width, prepare_canvas
from densevision.draw.colors import Color, get_class_color, get_track_color, vary_shade
from densevision.draw.tags import Tag, draw_tags

__all__ = ["draw_boxes", "draw_keypoints", "draw_masks"]

MASK_OPACITY = 0.45
FRACTION_BITS = 4
"""Bits of the fraction in the fixed-point coordinates that OpenCV takes."""

Box = tuple[float, float, float, float]


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray | Sequence[int],
    names: Sequence[str] = (),
    scores: np.ndarray | None = None,
    track_ids: np.ndarray | None = None,
    in_place: bool = False,
) -> np.ndarray:
    """Draws boxes in the colors of their classes, with class and score, or in those of their identities.

    Lines and text scale with the image. Labels are placed inside the image where they overlap no other label, highest
    score first; a label without a place is omitted. Small boxes are drawn over large ones. Boxes that are not finite
    are skipped.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy in pixels, (0, 0) is the corner of the image.
        labels: (N,) indices into `names`.
        names: Class names; a class without a name is shown by its index.
        scores: (N,) in [0, 1]; not shown if all are 1, as in ground truth.
        track_ids: (N,) identities, shown before the score; -1 is none.
        in_place: Draw on the image itself.

    Returns:
        The drawing, of the same size and type: a new image unless `in_place`.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = prepare_canvas(image, in_place)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    finite = np.flatnonzero(np.isfinite(boxes).all(1))
    areas = (boxes[finite, 2:] - boxes[finite, :2]).prod(1)
    colors = [get_class_color(label) for label in labels] if track_ids is None else _choose_track_colors(track_ids)
    width = compute_line_width(canvas.shape[:2], len(boxes))
    for row in finite[np.argsort(-areas, kind="stable")]:
        start, end = _to_fixed_point(boxes[row, :2]), _to_fixed_point(boxes[row, 2:])
        cv2.rectangle(canvas, start, end, colors[row], width, cv2.LINE_AA, FRACTION_BITS)
    anchors = {int(row): tuple(boxes[row].tolist()) for row in finite}
    draw_tags(canvas, _make_tags(anchors, colors, labels, names, scores, track_ids))
    return canvas


def draw_masks(
    image: np.ndarray,
    masks: Iterable[np.ndarray],
    labels: np.ndarray | Sequence[int],
    names: Sequence[str] = (),
    scores: np.ndarray | None = None,
    track_ids: np.ndarray | None = None,
    in_place: bool = False,
) -> np.ndarray:
    """Draws objects as tinted and outlined masks, with class and score; objects of one class differ in shade.

    Masks are consumed one at a time, so that a generator that decodes them keeps only one in memory.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N arrays (H, W) of bool; an empty mask draws nothing.
        labels, names, scores, track_ids, in_place: As for `draw_boxes`.

    Returns:
        The drawing, of the same size and type: a new image unless `in_place`.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = prepare_canvas(image, in_place)
    colors = _choose_shades(labels) if track_ids is None else _choose_track_colors(track_ids)
    anchors: dict[int, Box] = {}
    outlines = []
    for row, (mask, color) in enumerate(zip(masks, colors)):
        window = _find_window(mask)
        if window is None:
            continue
        rows, columns = window
        inside = np.ascontiguousarray(mask[window], bool)
        blend_color(canvas[window], color, MASK_OPACITY, inside)
        contours, _ = cv2.findContours(
            inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(columns.start, rows.start)
        )
        outlines.append((contours, color))
        anchors[row] = (columns.start, rows.start, columns.stop, rows.stop)
    width = compute_line_width(canvas.shape[:2], len(outlines))
    for contours, color in outlines:
        cv2.drawContours(canvas, contours, -1, color, width, cv2.LINE_AA)
    draw_tags(canvas, _make_tags(anchors, colors, labels, names, scores, track_ids))
    return canvas


def draw_keypoints(
    image: np.ndarray,
    points: np.ndarray,
    visible: np.ndarray,
    edges: Sequence[tuple[int, int]],
    track_ids: np.ndarray | None = None,
    in_place: bool = False,
) -> np.ndarray:
    """Draws the keypoints of each object and the edges of its skeleton, one color per object or identity.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (N, K, 2) xy in pixels, (0, 0) is the corner of the image.
        visible: (N, K) bool; other points, and edges that end in them, are skipped.
        edges: Pairs of indices into the K points that are connected.
        track_ids: (N,) identities, -1 for none.
        in_place: Draw on the image itself.

    Returns:
        The drawing, of the same size and type: a new image unless `in_place`.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = prepare_canvas(image, in_place)
    width = compute_line_width(canvas.shape[:2]) + 1
    for row, (keypoints, is_visible) in enumerate(zip(points, visible)):
        is_drawn = np.asarray(is_visible, bool) & np.isfinite(keypoints).all(1)
        centers = {int(index): _to_fixed_point(keypoints[index]) for index in np.flatnonzero(is_drawn)}
        color = get_class_color(row) if track_ids is None else get_track_color(int(track_ids[row]))
        for start, end in edges:
            if start in centers and end in centers:
                cv2.line(canvas, centers[start], centers[end], color, width, cv2.LINE_AA, FRACTION_BITS)
        for center in centers.values():
            cv2.circle(canvas, center, (width + 1) << FRACTION_BITS, (255, 255, 255), -1, cv2.LINE_AA, FRACTION_BITS)
            cv2.circle(canvas, center, width << FRACTION_BITS, color, -1, cv2.LINE_AA, FRACTION_BITS)
    return canvas


def _to_fixed_point(point: np.ndarray) -> tuple[int, int]:
    """A point in OpenCV's fixed-point coordinates, whose origin is the center of the first pixel."""
    limit = 1 << 20
    x, y = np.rint((np.clip(point, -limit, limit) - 0.5) * (1 << FRACTION_BITS)).astype(int).tolist()
    return x, y


def _find_window(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest window that contains a mask, as slices of rows and columns; None if the mask is empty."""
    rows = np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _choose_shades(labels: np.ndarray | Sequence[int]) -> list[Color]:
    """One color per object: the color of its class in a shade that changes from object to object."""
    counts: dict[int, int] = {}
    colors = []
    for label in map(int, labels):
        colors.append(vary_shade(get_class_color(label), counts.get(label, 0)))
        counts[label] = counts.get(label, 0) + 1
    return colors


def _choose_track_colors(track_ids: np.ndarray) -> list[Color]:
    return [get_track_color(track_id) for track_id in track_ids.tolist()]


def _make_tags(
    anchors: dict[int, Box],
    colors: Sequence[Color],
    labels: np.ndarray | Sequence[int],
    names: Sequence[str],
    scores: np.ndarray | None,
    track_ids: np.ndarray | None,
) -> list[Tag]:
    """One tag for each object that was drawn."""
    has_scores = scores is not None and bool((np.asarray(scores) != 1).any())
    tags = []
    for row, box in anchors.items():
        label = int(labels[row])
        name = names[label] if label < len(names) else str(label)
        weight = 1.0 if scores is None else float(scores[row])
        values = [f"#{track_ids[row]}"] if track_ids is not None and track_ids[row] >= 0 else []
        values += [f"{weight:.2f}"] if has_scores else []
        tags.append(Tag(name, " ".join(values), colors[row], box, weight))
    return tags
