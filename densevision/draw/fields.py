"""Fields over a whole image: classes, depth, motion and occlusion as colors with a key to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from densevision.draw.canvas import blend, canvas_of, line_width, strips
from densevision.draw.colors import INVALID, Color, class_color, palette, sequential
from densevision.draw.legends import write_bar, write_names, write_wheel

COVER = 0.6
"""Part of a class's color in the pixels that it covers."""
OCCLUDED: Color = (230, 0, 90)
SAMPLED = 1 << 20
"""Pixels from which the range of a field's numbers is taken."""

ERROR_SHADES = ((255, 254, 240, 90), (255, 215, 90, 0), (255, 160, 50, 20))
"""Red, green and blue of no error, of a quarter, of most and of all of the limit."""

Kind = Literal["metric", "relative", "disparity"]


def draw_semantic(
    image: np.ndarray, labels: np.ndarray, names: Sequence[str], ignore: int = 255, key: bool = True
) -> np.ndarray:
    """Tints each pixel with the color of its class; borders between classes are drawn in full color.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) indices into `names`.
        names: Class names.
        ignore: Label of pixels without a class, which stay as they are.
        key: Whether to write the names of the classes in the image, the largest first.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    counts = np.zeros(len(names), np.int64)
    for rows in strips(labels.shape):
        strip = labels[rows]
        known = (strip != ignore) & (strip >= 0) & (strip < len(names))
        counts += np.bincount(strip[known], minlength=len(names))
        colors = palette(max(len(names), 1))[np.where(known, strip, 0)]
        tinted = cv2.addWeighted(canvas[rows], 1 - COVER, colors, COVER, 0)
        border = _borders(labels, rows)
        tinted[border] = colors[border]
        np.copyto(canvas[rows], tinted, where=known[..., None])
    if key:
        present = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
        write_names(canvas, [(names[index], class_color(index)) for index in present])
    return canvas


def draw_depth(
    depth: np.ndarray,
    valid: np.ndarray | None = None,
    unit: str = "m",
    kind: Kind = "metric",
    limits: tuple[float, float] | None = None,
    key: bool = True,
) -> np.ndarray:
    """Depth or disparity as colors, from warm (near) to cold (far), with a bar and its unit.

    Args:
        depth: (H, W) numbers; larger is farther for metric and relative depth, nearer for disparity.
        valid: (H, W) bool; other pixels, and numbers that are not finite, are gray.
        unit: Unit of the numbers; may be empty.
        kind: What the numbers are.
        limits: Numbers at the ends of the bar; from the 2nd to the 98th percentile when not given. Give them to keep
            the colors of a video still.
        key: Whether to write the bar in the image.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    low, high = limits if limits is not None else range_of(depth, valid)
    span = high - low
    canvas = np.empty((*depth.shape, 3), np.uint8)
    for rows in strips(depth.shape):
        known = np.isfinite(depth[rows]) if valid is None else np.isfinite(depth[rows]) & valid[rows]
        level = (np.where(known, depth[rows], low) - low) / (span or 1)
        canvas[rows] = sequential(level if kind == "disparity" else 1 - level)
        canvas[rows][~known] = INVALID
    if key and span > 0:
        ramp = sequential(np.linspace(0, 1, 256)[None])[0]
        name = {"metric": "depth", "relative": "relative depth", "disparity": "disparity"}[kind]
        caption = f"{name} [{unit}]" if unit else name
        write_bar(canvas, ramp if kind == "disparity" else ramp[::-1], low, high, caption)
    return canvas


def draw_errors(errors: np.ndarray, known: np.ndarray, limit: float) -> np.ndarray:
    """Errors as shades: white where there is none, dark red from the limit on, gray where the truth is not known.

    Args:
        errors: (H, W) at least 0.
        known: (H, W) bool.
        limit: Error from which the shade is full.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    level = np.clip(np.nan_to_num(errors, nan=0.0, posinf=limit) / limit, 0, 1)
    channels = [np.interp(level, (0, 0.25, 0.6, 1), shades) for shades in ERROR_SHADES]
    return np.where(known[..., None], np.stack(channels, -1), INVALID).astype(np.uint8)


def draw_flow(
    flow: np.ndarray, valid: np.ndarray | None = None, limit: float | None = None, key: bool = True
) -> np.ndarray:
    """Motion as colors: hue is direction, saturation is speed, white stands still; with the wheel that explains them.

    Args:
        flow: (2, H, W) displacement right and down, in pixels.
        valid: (H, W) bool; other pixels, and motion that is not finite, are gray.
        limit: Length at the rim of the wheel; the longest motion when not given. Give it to keep the colors of a
            video still.
        key: Whether to write the wheel in the image.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    known = np.isfinite(flow).all(0) if valid is None else np.isfinite(flow).all(0) & valid
    if limit is None:
        limit = max((_longest(flow[:, rows], known[rows]) for rows in strips(known.shape)), default=0.0)
    canvas = np.empty((*known.shape, 3), np.uint8)
    for rows in strips(known.shape):
        canvas[rows] = flow_colors(np.where(known[rows], flow[:, rows], 0), limit)
        canvas[rows][~known[rows]] = INVALID
    if key and limit > 0:
        write_wheel(canvas, _wheel_image(), f"{limit:.3g} px")
    return canvas


def flow_colors(flow: np.ndarray, limit: float) -> np.ndarray:
    """The colors of the Middlebury flow wheel.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011; the same colors as the
    package flow_vis. Motion longer than the limit is darkened by a quarter.

    Args:
        flow: (2, H, W) finite displacement right and down.
        limit: Length at which colors are full.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    right, down = flow.astype(np.float64) / (limit + 1e-5)
    wheel = flow_wheel()
    place = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = np.floor(place).astype(int)
    part = (place - first)[..., None]
    hue = (1 - part) * wheel[first] + part * wheel[(first + 1) % len(wheel)]
    length = np.hypot(right, down)[..., None]
    color = np.where(length <= 1, 1 - length * (1 - hue), hue * 0.75)
    return (255 * color).astype(np.uint8)


@lru_cache(maxsize=1)
def flow_wheel() -> np.ndarray:
    """The 55 hues around the Middlebury wheel, (55, 3) RGB in [0, 1], read-only; the first is pure red.

    Between red, yellow, green, cyan, blue and magenta one channel rises or falls at a time, in steps whose number
    follows how well the eye tells hues apart there.
    """
    # Red, yellow, green, cyan, blue, magenta, and red again.
    corners = np.array([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)], float)
    hues = []
    for start, end, steps in zip(corners, corners[1:], (15, 6, 4, 11, 13, 6)):
        part = np.floor(255 * np.arange(steps) / steps)[:, None] / 255
        hues.append(start + (end - start) * part)
    wheel = np.concatenate(hues)
    wheel.setflags(write=False)
    return wheel


def draw_arrows(image: np.ndarray, flow: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Motion as a grid of arrows in the wheel's colors; the longest is as long as a cell of the grid.

    Args:
        image: (H, W, 3) uint8 RGB.
        flow: (2, H, W) displacement right and down, in pixels.
        valid: (H, W) bool; no arrow starts on other pixels, nor where the motion is not finite.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    height, width = canvas.shape[:2]
    cell = max(8, round((height * width) ** 0.5 / 22))
    y, x = (grid.ravel() for grid in np.mgrid[cell // 2 : height : cell, cell // 2 : width : cell])
    motion = flow[:, y, x].astype(np.float64)
    known = np.isfinite(motion).all(0) if valid is None else np.isfinite(motion).all(0) & valid[y, x]
    length = np.hypot(*np.where(known, motion, 0))
    scale = cell / max(float(length.max(initial=0)), 1e-9)
    line = max(1, line_width((height, width)) - 1)
    # An arrow shorter than a few pixels shows no direction.
    for row in np.flatnonzero(length * scale > 3):
        start = np.array((x[row], y[row]))
        color = flow_colors(motion[:, row].reshape(2, 1, 1) / length[row], 1.0)[0, 0].tolist()
        _arrow(canvas, start, start + motion[:, row] * scale, color, line)
    return canvas


def draw_occlusion(image: np.ndarray, occlusion: np.ndarray) -> np.ndarray:
    """Tints and outlines what the other image does not show.

    Args:
        image: (H, W, 3) uint8 RGB.
        occlusion: (H, W) bool.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = canvas_of(image)
    hidden = np.ascontiguousarray(occlusion, bool)
    for rows in strips(hidden.shape):
        blend(canvas[rows], OCCLUDED, 0.5, hidden[rows])
    edges, _ = cv2.findContours(hidden.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, edges, -1, OCCLUDED, 1, cv2.LINE_AA)
    return canvas


def _arrow(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color, line: int) -> None:
    """An arrow with a dark rim, which shows on any ground; OpenCV counts points in sixteenths of a pixel."""
    tail, head = (tuple(np.rint(point * 16).astype(int).tolist()) for point in (start, end))
    for ink, width in (((0, 0, 0), line + 2), (color, line)):
        cv2.arrowedLine(canvas, tail, head, ink, width, cv2.LINE_AA, 4, 0.3)


def _borders(labels: np.ndarray, rows: slice) -> np.ndarray:
    """Where a pixel's class differs from that of its right or lower neighbor, in some rows."""
    strip = labels[rows]
    below = labels[rows.start + 1 : rows.stop + 1]
    border = np.zeros(strip.shape, bool)
    border[:, :-1] = strip[:, :-1] != strip[:, 1:]
    border[: len(below)] |= strip[: len(below)] != below
    return border


def range_of(depth: np.ndarray, valid: np.ndarray | None) -> tuple[float, float]:
    """2nd and 98th percentile of the finite, valid numbers; a coarse grid of them where they are many."""
    step = max(1, round((depth.size / SAMPLED) ** 0.5))
    numbers = depth[::step, ::step]
    known = np.isfinite(numbers) if valid is None else np.isfinite(numbers) & valid[::step, ::step]
    if not known.any():
        return 0.0, 0.0
    low, high = np.percentile(numbers[known].astype(np.float64), (2, 98)).tolist()
    # A flat field gets a range too, so that its bar can tell how deep it is.
    margin = 0.0 if high > low else 0.1 * abs(low) or 1.0
    return low - margin, high + margin


def _longest(flow: np.ndarray, known: np.ndarray) -> float:
    return float(np.hypot(*np.where(known, flow, 0).astype(np.float64)).max(initial=0))


@lru_cache(maxsize=1)
def _wheel_image() -> np.ndarray:
    """The wheel as a square image, directions as they are in flow: right and down are positive."""
    down, right = np.mgrid[-1:1:257j, -1:1:257j]
    away = np.maximum(np.hypot(right, down), 1)
    return flow_colors(np.stack([right / away, down / away]), 1.0)
