"""Drawings of a result for the page: enlarged or reduced to its width, without legends, which stand beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from densevision.app.predictions import Prediction
from densevision.draw.fields import draw_depth, draw_flow, draw_occlusion, draw_semantic
from densevision.io.image import load_image, to_display
from densevision.results import DepthMap, Detections, FlowField, Image, JointResult, Result, SemanticMap
from densevision.results.flow_field import warp_back
from densevision.results.semantic_map import UNKNOWN

__all__ = ["VIEW_SIDE", "View", "draw_thumbnail", "draw_view", "list_views", "resize_to_view", "split_name"]

VIEW_SIDE = 960
"""Longest side in pixels of drawings; smaller images are enlarged by a whole factor."""
THUMBNAIL_SIDE = 240


@dataclass(frozen=True)
class View:
    """A drawing.

    Attributes:
        after: (H, W, 3) uint8 RGB.
        before: The image before, of the same size, where the page shows both under a slider.
        is_surface: Whether the page shows the depth as a surface in space instead.
    """

    after: np.ndarray
    before: np.ndarray | None = None
    is_surface: bool = False


Draw = Callable[[Prediction, Result], View]


def list_views(result: Result) -> list[str]:
    """Names of the drawings of a result; those of joint results have the task in front, "depth: 3-D"."""
    if isinstance(result, JointResult):
        return [f"{part}: {name}" for part, each in result.results.items() for name in list_views(each)]
    return list(_find_drawings(result))


def draw_view(prediction: Prediction, result: Result, name: str) -> View:
    """Draws a result.

    Args:
        prediction: The prediction, which has the images.
        result: Its result, or those of its objects that are shown.
        name: One of `list_views(result)`.

    Raises:
        KeyError: There is no such drawing.
    """
    part, view = split_name(name)
    if isinstance(result, JointResult):
        return draw_view(prediction, result[part], view)
    return _find_drawings(result)[view](prediction, result)


def draw_thumbnail(prediction: Prediction, result: Result) -> np.ndarray:
    """The first drawing of a result, reduced for a gallery: (h, w, 3) uint8 RGB."""
    drawing = draw_view(prediction, result, list_views(result)[0]).after
    scale = THUMBNAIL_SIDE / max(drawing.shape[:2])
    size = max(1, round(drawing.shape[1] * scale)), max(1, round(drawing.shape[0] * scale))
    return cv2.resize(drawing, size, interpolation=cv2.INTER_AREA)


def split_name(name: str) -> tuple[str, str]:
    """Task and drawing of a name; the task is empty unless the result is joint.

    >>> split_name("depth: 3-D"), split_name("Flow")
    (('depth', '3-D'), ('', 'Flow'))
    """
    part, separator, view = name.rpartition(": ")
    return (part, view) if separator else ("", name)


def resize_to_view(image: np.ndarray, is_smooth: bool = True) -> np.ndarray:
    """Resizes an (H, W, 3) uint8 image to `VIEW_SIDE`, or, if it is smaller, by the largest whole factor below."""
    scale = _compute_scale(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    enlarging = cv2.INTER_CUBIC if is_smooth else cv2.INTER_NEAREST
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else enlarging)


def _find_drawings(result: Result) -> dict[str, Draw]:
    for kind, drawings in _DRAWINGS.items():
        if isinstance(result, kind):
            return drawings
    return {"Result": lambda prediction, each: View(resize_to_view(each.overlay(_read(prediction, 0))))}


def _compute_scale(size: tuple[int, ...]) -> float:
    scale = VIEW_SIDE / max(size)
    return float(int(scale)) if scale >= 1 else scale


def _read(prediction: Prediction, number: int) -> np.ndarray:
    return to_display(load_image(prediction.files[number]))


def _draw_objects(prediction: Prediction, result: Result) -> View:
    """Draws on the resized image, so that lines and text are sharp."""
    canvas = resize_to_view(_read(prediction, 0))
    matrix = np.diag([canvas.shape[1] / result.size[1], canvas.shape[0] / result.size[0], 1.0])[:2]
    return View(result.warp(matrix, (canvas.shape[0], canvas.shape[1])).overlay(canvas))


def _draw_classes(prediction: Prediction, result: Result) -> View:
    assert isinstance(result, SemanticMap)
    canvas = resize_to_view(_read(prediction, 0))
    labels = cv2.resize(result.topmost(), (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_NEAREST)
    return View(draw_semantic(canvas, labels, result.names, UNKNOWN, legend=False), canvas)


def _draw_depth(prediction: Prediction, result: Result) -> View:
    assert isinstance(result, DepthMap)
    drawing = draw_depth(result.depth, result.valid, result.unit, result.kind, legend=False)
    return View(resize_to_view(drawing), resize_to_view(_read(prediction, 0)))


def _draw_surface(prediction: Prediction, result: Result) -> View:
    return View(_read(prediction, 0), is_surface=True)


def _draw_flow(prediction: Prediction, result: Result) -> View:
    assert isinstance(result, FlowField)
    drawing = draw_flow(result.flow, result.valid, legend=False)
    drawing = drawing if result.occluded is None else draw_occlusion(drawing, result.occluded)
    return View(resize_to_view(drawing), resize_to_view(_read(prediction, 0)))


def _draw_arrows(prediction: Prediction, result: Result) -> View:
    """Arrows on the resized image; their directions and relative lengths do not depend on its size."""
    assert isinstance(result, FlowField)
    canvas = resize_to_view(_read(prediction, 0))
    size = (canvas.shape[0], canvas.shape[1])
    matrix = np.diag([size[1] / result.size[1], size[0] / result.size[0], 1.0])[:2]
    return View(result.warp(matrix, size).arrows(canvas))


def _draw_warped(prediction: Prediction, result: Result) -> View:
    assert isinstance(result, FlowField)
    warped = warp_back(_read(prediction, 1), result.flow)
    return View(resize_to_view(warped), resize_to_view(_read(prediction, 0)))


def _draw_image(prediction: Prediction, result: Result) -> View:
    """Before and after without smoothing, so that what the model added is seen."""
    assert isinstance(result, Image)
    after, before = to_display(result.image), _read(prediction, 0)
    if before.shape != after.shape:
        before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return View(resize_to_view(after, is_smooth=False), resize_to_view(before, is_smooth=False))


_DRAWINGS: dict[type[Result], dict[str, Draw]] = {
    Detections: {"Objects": _draw_objects},
    SemanticMap: {"Classes": _draw_classes},
    DepthMap: {"Depth": _draw_depth, "3-D": _draw_surface},
    FlowField: {"Flow": _draw_flow, "Arrows": _draw_arrows, "Second image, warped back": _draw_warped},
    Image: {"Before and after": _draw_image},
}
