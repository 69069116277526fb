"""Pixel-wise answers of large images, and of several looks: overlapping windows, faded into one another.

This is how `tile` and `tta` work for tasks with `merge_strategy = "pixels"`; `variants` serves those that answer in objects.

    window -> looks -> Task.answers -> Task.fields -> mean of the looks -> x weights -> sum -> Task.results -> canvas

The weights of all windows sum to 1 at every pixel, so the sum is the blend. As soon as no later window reaches a
rectangle, the task makes a record of it, which is copied into the answer. Only the overlaps are kept as tensors: memory
depends on the window and on the image's width, not on its area.
"""

from __future__ import annotations

import logging
import math
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.inference.predictor import Model
from densevision.inference.tta import Variant, scaled, variants
from densevision.ops.view import Size, View
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, to_inputs
from densevision.tasks.base import Task, Tensors

log = logging.getLogger("densevision")

STEP = 32
"""Windows start at multiples of this, so that strided networks see the same grid of pixels as in the whole image."""
UNSEEN = 0.25
"""Part of the overlap, at a window's rim, that counts nothing: what lies beyond was not seen from there."""
SHARED = 0.75
"""Largest part of a window that may be overlap for the sake of the network's reach."""
IN_MEMORY = 256 * 2**20
"""Bytes from which an answer is kept in a temporary file instead of the memory."""


def in_windows(task: Task, size: Size, options: PredictOptions) -> PredictOptions:
    """The options, with a `tile` where the image is too large to be answered as a whole.

    A tile that is too small for the network's reach is made as large as it needs, up to the task's own window; beyond
    that a warning tells what tile would be joined without a trace.
    """
    if task.merge_strategy != "pixels" or (options.tile is None and size[0] * size[1] <= task.largest):
        return options
    tile, least = options.tile or task.window, math.ceil(2 * (task.receptive_field_radius or 0) / SHARED)
    if least > max(tile, task.window):
        _warn_of_seams(tile, task.receptive_field_radius, least)
    elif least > tile:
        tile = least
    return options.changed(tile=tile)


@lru_cache(maxsize=64)  # one warning for all images
def _warn_of_seams(tile: int, receptive_field_radius: int, least: int) -> None:
    log.warning(
        "tiles of %d pixels: an answer looks %d pixels far, so they are joined a little differently from the whole "
        "image; from --tile %d on they are not",
        tile,
        receptive_field_radius,
        least,
    )


def blended(model: Model, sample: Sample, options: PredictOptions) -> Result:
    """One record of an image from its windows, each the mean of its looks.

    Args:
        model: Of a task with `merge_strategy = "pixels"`.
        sample: The image or images.
        options: With `tile` or `tta`.
    """
    task = model.task
    scale = task.output_size((1, 1))[0]
    receptive_field_radius = task.receptive_field_radius
    rows, columns = (strips(side, options, scale, receptive_field_radius) for side in sample.size)
    guide = _Guide(model, sample, options) if task.needs_global_alignment and options.tile is not None else None
    overlaps = Overlaps()
    canvas = _Canvas(task.output_size(sample.size))
    for row in rows:
        for column in columns:
            window = Window(row, column)
            fields = _mean_of_looks(model, _part(sample, window), options)
            if guide is not None:
                fields = task.align(fields, guide.at(window))
            finished = overlaps.add(fields, window)
            height, width = row.done - row.start, column.done - column.start
            (record,) = task.results(finished, [View((height, width), (height, width))], options)
            record = task.finish(record, sample, (row.start, column.start))
            whole = canvas.write(record, row.start * scale, column.start * scale)
    return whole


@dataclass(frozen=True)
class Strip:
    """A window's extent along one side of the image, in pixels of the image.

    Attributes:
        start: Where it begins.
        stop: Where it ends.
        done: Up to where no later window reaches.
        weights: (stop - start) * scale weights, one per pixel of the answer.
        scale: Pixels of the answer per pixel of the image.
        last: There is no window after it.
    """

    start: int
    stop: int
    done: int
    weights: Tensor
    scale: int
    last: bool


@dataclass(frozen=True)
class Window:
    """One window: its rows and its columns."""

    row: Strip
    column: Strip


def strips(
    length: int, options: PredictOptions, scale: int = 1, receptive_field_radius: int | None = None
) -> list[Strip]:
    """The windows along one side, with weights that sum to 1 at every pixel.

    Args:
        length: Pixels of the side.
        options: `tile` and `overlap`; one window when there is no `tile`.
        scale: Pixels of the answer per pixel of the image.
        reach: How far a pixel of the answer looks. The windows then overlap by twice as much at least, and what did not
            see all that it looks at counts nothing; unless so much overlap would leave too little of a window.

    Where the overlap leaves less than `STEP` of a tile, the windows are larger than it by what is missing.
    """
    tile = max(options.tile or length, STEP)
    unseen = (
        receptive_field_radius
        if receptive_field_radius is not None and 2 * receptive_field_radius <= SHARED * tile
        else 0
    )
    shared = max(math.ceil(options.overlap * tile), 2 * unseen)
    tile = max(tile, shared + STEP)
    starts = window_starts(length, tile, shared)
    stops = [*(start + tile for start in starts[:-1]), length]
    raw = []
    for index, (start, stop) in enumerate(zip(starts, stops)):
        weight = np.ones((stop - start) * scale)
        if index > 0:
            weight = np.minimum(weight, _ramp(weight.size, (stops[index - 1] - start) * scale, unseen * scale))
        if index + 1 < len(starts):
            weight = np.minimum(weight, _ramp(weight.size, (stop - starts[index + 1]) * scale, unseen * scale)[::-1])
        raw.append(weight)
    total = np.zeros(length * scale)
    for start, weight in zip(starts, raw):
        total[start * scale : start * scale + weight.size] += weight
    shares = [weight / total[start * scale :][: weight.size] for start, weight in zip(starts, raw)]
    dones = [*starts[1:], length]
    return [
        Strip(start, stop, done, torch.from_numpy(share).float(), scale, done == length)
        for start, stop, done, share in zip(starts, stops, dones, shares)
    ]


def window_starts(length: int, tile: int, shared: int) -> list[int]:
    """Where the windows of one side begin: evenly spaced multiples of `STEP`; the last window is at least `tile` long.

    Args:
        length: Pixels of the side.
        tile: Pixels of a window.
        shared: Pixels that neighbors have in common at least; leaves `STEP` or more of a window.

    >>> window_starts(1000, 400, 100)
    [0, 288, 576]
    """
    last = max(0, length - tile) // STEP
    most = (tile - shared) // STEP
    count = math.ceil(last / most)
    return [0, *(index * last // count * STEP for index in range(1, count + 1))]


def _ramp(length: int, overlap: int, unseen: int) -> np.ndarray:
    """Weights of a window that fades in over an overlap, at pixels' centers: 0 at the rim, then a line up to 1."""
    if not overlap:
        return np.ones(length)
    rim = min(max(UNSEEN * overlap, unseen), (overlap - 1) / 2)  # a pixel of fade, or none would count in the middle
    return ((np.arange(length) + 0.5 - rim) / (overlap - 2 * rim)).clip(0, 1)


class Overlaps:
    """The weighted sums of what later windows still reach: beside the last window, and below the finished rows."""

    def __init__(self) -> None:
        self.left: Tensors = {}
        self.above: Tensors = {}
        self.below: dict[str, list[Tensor]] = {}

    def add(self, fields: Tensors, window: Window) -> Tensors:
        """Adds a window; windows come row by row, each from left to right.

        Args:
            fields: (1, C, h, w) on the window's pixels.
            window: Where it lies.

        Returns:
            The rectangle that no later window reaches, at the window's top left.
        """
        row, column = window.row, window.column
        height, width = ((strip.done - strip.start) * strip.scale for strip in (row, column))
        weights = row.weights[:, None] * column.weights
        finished = {}
        for name, field in fields.items():
            total = field.float() * weights
            if name in self.left:
                total[..., : self.left[name].shape[-1]] += self.left[name]
            self.left[name] = total[..., width:].clone()
            total = total[..., :width]
            if name in self.above:
                above = self.above[name][..., column.start * column.scale :][..., :width]
                total[..., : above.shape[-2], :] += above
            self.below.setdefault(name, []).append(total[..., height:, :].clone())
            finished[name] = total[..., :height, :]
        if column.last:
            self.above = {name: torch.cat(parts, -1) for name, parts in self.below.items()}
            self.left, self.below = {}, {}
        return finished


class _Canvas:
    """The record of the whole image, filled rectangle by rectangle; what has no rows is taken from the last one."""

    def __init__(self, size: Size):
        self.size = size
        self.arrays: dict[str, np.ndarray] = {}

    def write(self, record: Result, top: int, left: int) -> Result:
        """Copies a rectangle's record to its place; gives the whole as it is so far."""
        height, width = record.size
        for name, axis in record.rows.items():
            part = getattr(record, name)
            if part is None:
                continue
            if name not in self.arrays:
                shape = (*part.shape[:axis], *self.size, *part.shape[axis + 2 :])
                self.arrays[name] = _room(shape, part.dtype)
            place = (slice(None),) * axis + (slice(top, top + height), slice(left, left + width))
            self.arrays[name][place] = part
        return replace(record, size=self.size, **self.arrays)


def _room(shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """An array to be filled: in memory, or as a temporary file that vanishes with it where it would be large."""
    if math.prod(shape) * kind.itemsize <= IN_MEMORY:
        return np.empty(shape, kind)
    return np.memmap(tempfile.TemporaryFile(), kind, "w+", shape=shape)


class _Guide:
    """The answer to the whole image made as small as a window, for tasks whose answers float from look to look."""

    def __init__(self, model: Model, sample: Sample, options: PredictOptions):
        self.size = sample.size
        factor = min(1.0, (options.tile or max(sample.size)) / max(sample.size))
        small = scaled(Variant(sample, np.eye(2, 3)), factor).sample
        self.fields = _mean_of_looks(model, small, options)

    def at(self, window: Window) -> Tensors:
        """What the guide says of a window, on the window's own pixels: (1, C, h, w)."""
        height, width = self.size
        y, x = (
            (torch.arange(strip.start, strip.stop) + 0.5) / side * 2 - 1
            for strip, side in ((window.row, height), (window.column, width))
        )
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        return {
            name: F.grid_sample(field, points, padding_mode="border", align_corners=False)
            for name, field in self.fields.items()
        }


def _part(sample: Sample, window: Window) -> Sample:
    cut = np.s_[window.row.start : window.row.stop, window.column.start : window.column.stop]
    return replace(sample, images={name: image[cut] for name, image in sample.images.items()}, truth=None)


def _mean_of_looks(model: Model, sample: Sample, options: PredictOptions) -> Tensors:
    """The fields of an image, averaged over the looks that `tta` asks for: (1, C, H, W) on its own pixels."""
    total: Tensors = {}
    found = list(variants(sample, options.changed(tile=None)))
    for variant in found:
        inputs, (seen,) = to_inputs([variant.sample], model.task.inputs)
        size = sample.size if variant.turns % 2 == 0 else sample.size[::-1]
        view = _through(seen, variant, size)
        mirrored = bool(np.linalg.det(variant.back[:, :2]) < 0)
        fields = model.task.fields(model.answers(inputs, options), view, mirrored)
        for name, field in fields.items():
            total[name] = torch.rot90(field, -variant.turns, (-2, -1)) / len(found) + total.get(name, 0)
    return total


def _through(seen: View, variant: Variant, size: Size) -> View:
    """The view of an image that is first made larger or smaller, then seen by the network; mirroring left aside."""
    smaller = variant.sample.size
    factor = (smaller[1] / size[1], smaller[0] / size[0])
    return replace(seen, original=size, scale=(seen.scale[0] * factor[0], seen.scale[1] * factor[1]))
