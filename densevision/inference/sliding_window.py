"""Sliding-window prediction of dense maps: overlapping windows, blended into one another.

This is how `tile` and `tta` work for tasks with `merge_strategy = "blend"`; `make_tta_views` serves the others.

    window -> TTA views -> predict_tensors -> Task.to_image_space -> mean of the views -> x weights -> sum
           -> Task.to_results -> canvas

The weights of all windows sum to 1 at every pixel. As soon as no later window covers a rectangle, the task makes a
result of it, which is copied onto the canvas. Only overlaps are kept as tensors: memory depends on the window and on
the width of the image, not on its area.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.inference.allocator import release_freed_memory
from densevision.inference.tta import TTAView, make_tta_views, scale_view
from densevision.nn.model import Tensors
from densevision.ops.view import Size, View
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, prepare_inputs
from densevision.tasks.base import Task

if TYPE_CHECKING:
    from densevision.inference.predictor import Predictor

__all__ = ["BlendBuffer", "Span", "Window", "choose_tile", "compute_window_starts", "predict_blended", "split_side"]

log = logging.getLogger("densevision")

STEP = 32
"""Windows start at multiples of this, so that strided networks see the same pixel grid as in the whole image."""
BORDER_FRACTION = 0.25
"""Fraction of an overlap, at the border of a window, that gets no weight: it was predicted without its surroundings."""
MAX_OVERLAP = 0.75
"""Maximum fraction of a window that may be overlap to cover the receptive field."""
MAX_ARRAY_BYTES = 256 * 2**20
"""Larger results are kept in a temporary file instead of memory."""


def choose_tile(task: Task, size: Size, options: PredictOptions) -> PredictOptions:
    """Sets `tile` where the image is too large to be predicted as a whole.

    A tile that is too small for the receptive field is enlarged, up to the task's default tile; beyond that a warning
    names the tile size without seams.
    """
    if task.merge_strategy != "blend" or (options.tile is None and size[0] * size[1] <= task.max_untiled_pixels):
        return options
    radius = task.receptive_field_radius or 0
    tile, seamless_tile = options.tile or task.tile_size, math.ceil(2 * radius / MAX_OVERLAP)
    if seamless_tile > max(tile, task.tile_size):
        _warn_about_seams(tile, radius, seamless_tile)
    elif seamless_tile > tile:
        tile = seamless_tile
    return options.replace(tile=tile)


@lru_cache(maxsize=64)  # one warning for all images
def _warn_about_seams(tile: int, radius: int, seamless_tile: int) -> None:
    log.warning(
        "tiles of %d pixels are small for the receptive field (radius %d): seams are possible; use --tile %d or more",
        tile,
        radius,
        seamless_tile,
    )


def predict_blended(predictor: Predictor, sample: Sample, options: PredictOptions) -> Result:
    """Predicts one image in windows, each the mean of its TTA views.

    Args:
        predictor: A model of a task with `merge_strategy = "blend"`.
        sample: The image or images.
        options: With `tile` or `tta`.
    """
    task = predictor.task
    scale = task.output_size((1, 1))[0]
    rows, columns = (split_side(side, options, scale, task.receptive_field_radius) for side in sample.size)
    reference = _Reference(predictor, sample, options) if task.needs_global_alignment and options.tile else None
    buffer = BlendBuffer()
    canvas = _Canvas(task.output_size(sample.size))
    for row in rows:
        for column in columns:
            window = Window(row, column)
            maps = _average_tta_views(predictor, _crop_sample(sample, window), options)
            if reference is not None:
                maps = task.align_to_reference(maps, reference.crop(window))
            maps = buffer.add(maps, window)
            size = row.final_stop - row.start, column.final_stop - column.start
            (result,) = task.to_results(maps, [View(size, size)], options)
            result = task.restore_metadata(result, sample, (row.start, column.start))
            image_result = canvas.write(result, row.start * scale, column.start * scale)
        release_freed_memory()
    return image_result


@dataclass(frozen=True)
class Span:
    """Extent of a window along one side of the image, in pixels of the image.

    Attributes:
        start: First pixel.
        stop: End, exclusive.
        final_stop: End of the part that no later window covers.
        weights: (stop - start) * scale weights, one per pixel of the output.
        scale: Output pixels per image pixel.
        is_last: No window follows along this side.
    """

    start: int
    stop: int
    final_stop: int
    weights: Tensor
    scale: int
    is_last: bool


@dataclass(frozen=True)
class Window:
    """One window: its rows and its columns."""

    row: Span
    column: Span


def split_side(
    length: int, options: PredictOptions, scale: int = 1, receptive_field_radius: int | None = None
) -> list[Span]:
    """Splits one side of an image into overlapping windows, with weights that sum to 1 at every pixel.

    Where the overlap leaves less than `STEP` of a tile, windows are enlarged.

    Args:
        length: Length of the side in pixels.
        options: `tile` and `overlap`; a single window without `tile`.
        scale: Output pixels per image pixel.
        receptive_field_radius: Pixels around an output pixel that influence it. Windows then overlap by at least twice
            as much, and pixels whose surroundings the window lacks get no weight; unless the overlap would exceed
            `MAX_OVERLAP` of the tile.
    """
    tile = max(options.tile or length, STEP)
    radius = receptive_field_radius or 0
    border = radius if 2 * radius <= MAX_OVERLAP * tile else 0
    overlap = max(math.ceil(options.overlap * tile), 2 * border)
    tile = max(tile, overlap + STEP)
    starts = compute_window_starts(length, tile, overlap)
    stops = [*(start + tile for start in starts[:-1]), length]
    ramps = []
    for index, (start, stop) in enumerate(zip(starts, stops)):
        ramp = np.ones((stop - start) * scale)
        if index > 0:
            ramp = np.minimum(ramp, _make_ramp(ramp.size, (stops[index - 1] - start) * scale, border * scale))
        if index + 1 < len(starts):
            ramp = np.minimum(ramp, _make_ramp(ramp.size, (stop - starts[index + 1]) * scale, border * scale)[::-1])
        ramps.append(ramp)
    total = np.zeros(length * scale)
    for start, ramp in zip(starts, ramps):
        total[start * scale : start * scale + ramp.size] += ramp
    weights = [ramp / total[start * scale :][: ramp.size] for start, ramp in zip(starts, ramps)]
    return [
        Span(start, stop, final_stop, torch.from_numpy(weight).float(), scale, final_stop == length)
        for start, stop, final_stop, weight in zip(starts, stops, [*starts[1:], length], weights)
    ]


def compute_window_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Computes the starts of the windows along one side: evenly spaced multiples of `STEP`.

    The last window is at least `tile` long.

    Args:
        length: Length of the side in pixels.
        tile: Side of a window in pixels.
        overlap: Minimum number of pixels that neighbors share; at most `tile - STEP`.

    >>> compute_window_starts(1000, 400, 100)
    [0, 288, 576]
    """
    last = max(0, length - tile) // STEP
    max_steps = (tile - overlap) // STEP
    count = math.ceil(last / max_steps)
    return [0, *(index * last // count * STEP for index in range(1, count + 1))]


def _make_ramp(length: int, overlap: int, border: int) -> np.ndarray:
    """Weights of a window that fades in over an overlap, at pixel centers: 0 at the border, then linear up to 1."""
    if not overlap:
        return np.ones(length)
    # At least one pixel fades, or none would have a weight in the middle.
    border_width = min(max(BORDER_FRACTION * overlap, border), (overlap - 1) / 2)
    return ((np.arange(length) + 0.5 - border_width) / (overlap - 2 * border_width)).clip(0, 1)


class BlendBuffer:
    """Weighted sums of the pixels that later windows still cover: right of the last window, and below finished rows."""

    def __init__(self) -> None:
        self._right: Tensors = {}
        # One part for each window of a row. Every row has the same columns, so each window takes the part above it.
        self._above: dict[str, deque[Tensor]] = {}
        self._below: dict[str, deque[Tensor]] = {}

    def add(self, maps: Tensors, window: Window) -> Tensors:
        """Adds a window; windows come row by row, each row from left to right.

        Args:
            maps: (1, C, h, w) on the pixels of the window.
            window: Where it lies.

        Returns:
            The rectangle at the top left of the window that no later window covers.
        """
        row, column = window.row, window.column
        height, width = ((span.final_stop - span.start) * span.scale for span in (row, column))
        weights = row.weights[:, None] * column.weights
        finished = {}
        for name, values in maps.items():
            total = values.float() * weights
            if name in self._right:
                total[..., : self._right[name].shape[-1]] += self._right[name]
            self._right[name] = total[..., width:].clone()
            total = total[..., :width]
            if name in self._above:
                above = self._above[name].popleft()
                total[..., : above.shape[-2], :] += above
            self._below.setdefault(name, deque()).append(total[..., height:, :].clone())
            finished[name] = total[..., :height, :]
        if column.is_last:
            self._right, self._above, self._below = {}, self._below, {}
        return finished


class _Canvas:
    """The result of the whole image, filled rectangle by rectangle; fields without rows come from the last one."""

    def __init__(self, size: Size):
        self.size = size
        self.arrays: dict[str, np.ndarray] = {}

    def write(self, result: Result, top: int, left: int) -> Result:
        """Copies the result of a rectangle to its place, and returns the result of the whole image so far."""
        height, width = result.size
        for name, axis in result.row_axes.items():
            values = getattr(result, name)
            if values is None:
                continue
            if name not in self.arrays:
                shape = (*values.shape[:axis], *self.size, *values.shape[axis + 2 :])
                self.arrays[name] = _allocate(shape, values.dtype)
            index = (slice(None),) * axis + (slice(top, top + height), slice(left, left + width))
            self.arrays[name][index] = values
        return replace(result, size=self.size, **self.arrays)


def _allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocates an array in memory, or in a temporary file that is deleted with it where it would be large."""
    if math.prod(shape) * dtype.itemsize <= MAX_ARRAY_BYTES:
        return np.empty(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(), dtype, "w+", shape=shape)


class _Reference:
    """The prediction of the whole image at the size of a window, to which drifting predictions are aligned."""

    def __init__(self, predictor: Predictor, sample: Sample, options: PredictOptions):
        self.size = sample.size
        factor = min(1.0, (options.tile or max(sample.size)) / max(sample.size))
        small = scale_view(TTAView(sample, np.eye(2, 3)), factor).sample
        self.maps = _average_tta_views(predictor, small, options)

    def crop(self, window: Window) -> Tensors:
        """The reference on the pixels of a window: (1, C, h, w)."""
        height, width = self.size
        y, x = (
            (torch.arange(span.start, span.stop) + 0.5) / side * 2 - 1
            for span, side in ((window.row, height), (window.column, width))
        )
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        return {
            name: F.grid_sample(values, points, padding_mode="border", align_corners=False)
            for name, values in self.maps.items()
        }


def _crop_sample(sample: Sample, window: Window) -> Sample:
    index = np.s_[window.row.start : window.row.stop, window.column.start : window.column.stop]
    return replace(sample, images={name: image[index] for name, image in sample.images.items()}, truth=None)


def _average_tta_views(predictor: Predictor, sample: Sample, options: PredictOptions) -> Tensors:
    """Averages the maps of the views that `tta` asks for: (1, C, H, W) on the pixels of the image."""
    total: Tensors = {}
    tta_views = list(make_tta_views(sample, options.replace(tile=None)))
    for tta_view in tta_views:
        inputs, (view,) = prepare_inputs([tta_view.sample], predictor.task.input_spec)
        size = sample.size if tta_view.turns % 2 == 0 else sample.size[::-1]
        is_mirrored = bool(np.linalg.det(tta_view.to_image[:, :2]) < 0)
        predictions = predictor.predict_tensors(inputs, options)
        maps = predictor.task.to_image_space(predictions, _include_scale(view, tta_view, size), is_mirrored)
        for name, values in maps.items():
            if len(tta_views) > 1:  # copies of large maps would cost as much memory as the network
                values = torch.rot90(values, -tta_view.turns, (-2, -1)) / len(tta_views) + total.get(name, 0)
            total[name] = values
    return total


def _include_scale(view: View, tta_view: TTAView, size: Size) -> View:
    """The view of an image of this size through a scaled TTA view, without its mirroring."""
    height, width = tta_view.sample.size
    factor = (width / size[1], height / size[0])
    return replace(view, original=size, scale=(view.scale[0] * factor[0], view.scale[1] * factor[1]))
