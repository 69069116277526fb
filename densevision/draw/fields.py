"""Per-pixel fields as colors with a legend: classes, depth, errors, flow and occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from densevision.draw.canvas import blend_color, compute_line_width, copy_canvas, prepare_canvas, split_rows
from densevision.draw.colors import INVALID_COLOR, Color, apply_colormap, build_palette, get_class_color
from densevision.draw.legends import draw_class_legend, draw_color_bar, draw_flow_wheel

__all__ = [
    "build_flow_wheel",
    "compute_display_range",
    "draw_arrows",
    "draw_depth",
    "draw_errors",
    "draw_flow",
    "draw_occlusion",
    "draw_semantic",
    "flow_to_rgb",
    "render_flow_wheel",
]

CLASS_OPACITY = 0.6
OCCLUSION_COLOR: Color = (230, 0, 90)
MAX_SAMPLES = 1 << 20
"""Pixels from which the display range of a field is computed."""

ERROR_LEVELS = (0, 0.25, 0.6, 1)
ERROR_COLORS = ((255, 254, 240, 90), (255, 215, 90, 0), (255, 160, 50, 20))
"""Red, green and blue of errors at `ERROR_LEVELS`, as fractions of the limit."""

Kind = Literal["metric", "relative", "disparity"]


def draw_semantic(
    image: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    ignore: int = 255,
    legend: bool = True,
    in_place: bool = False,
) -> np.ndarray:
    """Tints each pixel with the color of its class; borders between classes have the full color.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) indices into `names`.
        names: Class names.
        ignore: Label of pixels without a class, which are unchanged.
        legend: Draw a legend of the classes in the image, by descending area.
        in_place: Draw on the image itself.

    Returns:
        The drawing, of the same size and type: a new image unless `in_place`.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = prepare_canvas(image, in_place)
    counts = np.zeros(len(names), np.int64)
    for rows in split_rows((labels.shape[0], labels.shape[1])):
        strip = labels[rows]
        is_known = (strip != ignore) & (strip >= 0) & (strip < len(names))
        counts += np.bincount(strip[is_known], minlength=len(names))
        colors = build_palette(max(len(names), 1))[np.where(is_known, strip, 0)]
        tinted = cv2.addWeighted(canvas[rows], 1 - CLASS_OPACITY, colors, CLASS_OPACITY, 0)
        borders = _find_borders(labels, rows)
        tinted[borders] = colors[borders]
        np.copyto(canvas[rows], tinted, where=is_known[..., None])
    if legend:
        present = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
        draw_class_legend(canvas, [(names[index], get_class_color(index)) for index in present])
    return canvas


def draw_depth(
    depth: np.ndarray,
    valid: np.ndarray | None = None,
    unit: str = "m",
    kind: Kind = "metric",
    limits: tuple[float, float] | None = None,
    legend: bool = True,
) -> np.ndarray:
    """Colors depth or disparity from warm (near) to cold (far), with a color bar and its unit.

    Args:
        depth: (H, W); larger is farther for metric and relative depth, nearer for disparity.
        valid: (H, W) bool; other pixels, and numbers that are not finite, are gray.
        unit: Unit of the numbers; may be empty.
        kind: Kind of the numbers.
        limits: Numbers at the ends of the color bar; by default the 2nd and 98th percentile. Pass them for videos, so
            that colors do not change from frame to frame.
        legend: Draw the color bar.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    low, high = limits if limits is not None else compute_display_range(depth, valid)
    span = high - low
    canvas = np.empty((*depth.shape, 3), np.uint8)
    for rows in split_rows((depth.shape[0], depth.shape[1])):
        is_valid = np.isfinite(depth[rows]) if valid is None else np.isfinite(depth[rows]) & valid[rows]
        level = (np.where(is_valid, depth[rows], low) - low) / (span or 1)
        canvas[rows] = apply_colormap(level if kind == "disparity" else 1 - level)
        canvas[rows][~is_valid] = INVALID_COLOR
    if legend and span > 0:
        ramp = apply_colormap(np.linspace(0, 1, 256)[None])[0]
        name = {"metric": "depth", "relative": "relative depth", "disparity": "disparity"}[kind]
        caption = f"{name} [{unit}]" if unit else name
        draw_color_bar(canvas, ramp if kind == "disparity" else ramp[::-1], low, high, caption)
    return canvas


def draw_errors(errors: np.ndarray, valid: np.ndarray, limit: float) -> np.ndarray:
    """Colors errors from white (none) to dark red (the limit and above); gray without ground truth.

    Args:
        errors: (H, W), not negative.
        valid: (H, W) bool.
        limit: Error with the darkest color.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    level = np.clip(np.nan_to_num(errors, nan=0.0, posinf=limit) / limit, 0, 1)
    channels = [np.interp(level, ERROR_LEVELS, values) for values in ERROR_COLORS]
    return np.where(valid[..., None], np.stack(channels, -1), INVALID_COLOR).astype(np.uint8)


def draw_flow(
    flow: np.ndarray, valid: np.ndarray | None = None, limit: float | None = None, legend: bool = True
) -> np.ndarray:
    """Colors optical flow: hue is direction, saturation is speed, white is no motion; with the color wheel as legend.

    Args:
        flow: (2, H, W) displacement right and down, in pixels.
        valid: (H, W) bool; other pixels, and flow that is not finite, are gray.
        limit: Speed at the rim of the wheel; by default the largest one. Pass it for videos, so that colors do not
            change from frame to frame.
        legend: Draw the color wheel.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    is_valid = np.isfinite(flow).all(0) if valid is None else np.isfinite(flow).all(0) & valid
    size = (is_valid.shape[0], is_valid.shape[1])
    if limit is None:
        limit = max((_compute_max_speed(flow[:, rows], is_valid[rows]) for rows in split_rows(size)), default=0.0)
    canvas = np.empty((*size, 3), np.uint8)
    for rows in split_rows(size):
        canvas[rows] = flow_to_rgb(np.where(is_valid[rows], flow[:, rows], 0), limit)
        canvas[rows][~is_valid[rows]] = INVALID_COLOR
    if legend and limit > 0:
        draw_flow_wheel(canvas, render_flow_wheel(), f"{limit:.3g} px")
    return canvas


def flow_to_rgb(flow: np.ndarray, limit: float) -> np.ndarray:
    """Colors optical flow with the Middlebury color wheel.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011; the same colors as the
    package flow_vis. Flow longer than the limit is darkened by a quarter.

    Args:
        flow: (2, H, W) finite displacement right and down.
        limit: Length with full saturation.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    right, down = flow.astype(np.float64) / (limit + 1e-5)
    wheel = build_flow_wheel()
    position = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = np.floor(position).astype(int)
    fraction = (position - first)[..., None]
    hue = (1 - fraction) * wheel[first] + fraction * wheel[(first + 1) % len(wheel)]
    length = np.hypot(right, down)[..., None]
    color = np.where(length <= 1, 1 - length * (1 - hue), hue * 0.75)
    return (255 * color).astype(np.uint8)


@lru_cache(maxsize=1)
def build_flow_wheel() -> np.ndarray:
    """Builds the 55 hues of the Middlebury wheel, (55, 3) RGB in [0, 1], read-only; the first is pure red.

    Between red, yellow, green, cyan, blue and magenta one channel rises or falls, in more steps where the eye
    distinguishes more hues.
    """
    # Red, yellow, green, cyan, blue, magenta, and red again.
    corners = np.array([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)], float)
    hues = []
    for start, end, steps in zip(corners, corners[1:], (15, 6, 4, 11, 13, 6)):
        fraction = np.floor(255 * np.arange(steps) / steps)[:, None] / 255
        hues.append(start + (end - start) * fraction)
    wheel = np.concatenate(hues)
    wheel.setflags(write=False)
    return wheel


def draw_arrows(image: np.ndarray, flow: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Draws optical flow as a grid of arrows in the colors of the wheel; the longest spans one cell of the grid.

    Args:
        image: (H, W, 3) uint8 RGB.
        flow: (2, H, W) displacement right and down, in pixels.
        valid: (H, W) bool; other pixels, and flow that is not finite, get no arrow.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = copy_canvas(image)
    height, width = canvas.shape[:2]
    cell = max(8, round((height * width) ** 0.5 / 22))
    y, x = (grid.ravel() for grid in np.mgrid[cell // 2 : height : cell, cell // 2 : width : cell])
    motion = flow[:, y, x].astype(np.float64)
    is_valid = np.isfinite(motion).all(0) if valid is None else np.isfinite(motion).all(0) & valid[y, x]
    length = np.hypot(*np.where(is_valid, motion, 0))
    scale = cell / max(float(length.max(initial=0)), 1e-9)
    line_width = max(1, compute_line_width((height, width)) - 1)
    # An arrow shorter than a few pixels shows no direction.
    for row in np.flatnonzero(length * scale > 3):
        start = np.array((x[row], y[row]))
        color = flow_to_rgb(motion[:, row].reshape(2, 1, 1) / length[row], 1.0)[0, 0].tolist()
        _draw_arrow(canvas, start, start + motion[:, row] * scale, color, line_width)
    return canvas


def draw_occlusion(image: np.ndarray, occlusion: np.ndarray) -> np.ndarray:
    """Tints and outlines occluded pixels.

    Args:
        image: (H, W, 3) uint8 RGB.
        occlusion: (H, W) bool.

    Returns:
        A new image of the same size and type.

    Raises:
        DataError: The image is not (H, W, 3) uint8.
    """
    canvas = copy_canvas(image)
    mask = np.ascontiguousarray(occlusion, bool)
    for rows in split_rows((mask.shape[0], mask.shape[1])):
        blend_color(canvas[rows], OCCLUSION_COLOR, 0.5, mask[rows])
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, contours, -1, OCCLUSION_COLOR, 1, cv2.LINE_AA)
    return canvas


def compute_display_range(depth: np.ndarray, valid: np.ndarray | None) -> tuple[float, float]:
    """2nd and 98th percentile of the finite, valid numbers, sampled on a grid if there are many; (0, 0) without any."""
    step = max(1, round((depth.size / MAX_SAMPLES) ** 0.5))
    samples = depth[::step, ::step]
    is_valid = np.isfinite(samples) if valid is None else np.isfinite(samples) & valid[::step, ::step]
    if not is_valid.any():
        return 0.0, 0.0
    low, high = np.percentile(samples[is_valid].astype(np.float64), (2, 98)).tolist()
    # A constant field gets a range as well, so that its color bar shows the value.
    margin = 0.0 if high > low else 0.1 * abs(low) or 1.0
    return low - margin, high + margin


def _draw_arrow(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color, line_width: int) -> None:
    """Draws an arrow with a dark outline, which is visible on any background; points are in sixteenths of a pixel."""
    (x1, y1), (x2, y2) = (np.rint(point * 16).astype(int).tolist() for point in (start, end))
    for stroke, width in (((0, 0, 0), line_width + 2), (color, line_width)):
        cv2.arrowedLine(canvas, (x1, y1), (x2, y2), stroke, width, cv2.LINE_AA, 4, 0.3)


def _find_borders(labels: np.ndarray, rows: slice) -> np.ndarray:
    """Pixels of some rows whose label differs from that of the right or lower neighbor."""
    strip = labels[rows]
    below = labels[rows.start + 1 : rows.stop + 1]
    is_border = np.zeros(strip.shape, bool)
    is_border[:, :-1] = strip[:, :-1] != strip[:, 1:]
    is_border[: len(below)] |= strip[: len(below)] != below
    return is_border


def _compute_max_speed(flow: np.ndarray, valid: np.ndarray) -> float:
    return float(np.hypot(*np.where(valid, flow, 0).astype(np.float64)).max(initial=0))


@lru_cache(maxsize=1)
def render_flow_wheel() -> np.ndarray:
    """The wheel as (257, 257, 3) uint8 RGB in the orientation of the flow: right and down are positive."""
    down, right = np.mgrid[-1:1:257j, -1:1:257j]
    radius = np.maximum(np.hypot(right, down), 1)
    return flow_to_rgb(np.stack([right / radius, down / radius]), 1.0)
