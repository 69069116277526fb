"""What flows between data and models: a Sample is one image with its ground truth, a Batch is the input of a step.

Reading samples needs no torch: it is imported where tensors are made, so that checks and conversions start without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from densevision.io.image import convert_channels, to_unit_float
from densevision.ops.view import Fit, Interpolation, Size, View, fit_view
from densevision.results import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "Batch",
    "FirstSamples",
    "InputSpec",
    "LocatedSamples",
    "Sample",
    "SampleSet",
    "prepare_inputs",
    "warp_ground_truth",
]


@dataclass(frozen=True)
class InputSpec:
    """The size rule of one named input of a model.

    Attributes:
        channels: Channels of the image.
        mode: How an image is fitted to the canvas; see `ops.view.fit_view`.
        size: Target of `letterbox`, `shortest` and `cover`: a side, or (height, width).
        max_size: Maximum of the longer side with `shortest`.
        multiple_of: Each side of the canvas is a multiple of this.
        min_side: Minimum side of the canvas.
        full_size: `letterbox` makes a canvas of `size` even where the image needs less.
        fill: Value in [0, 1] of the canvas outside of the image, one or one per channel; `edge` repeats the edge.
        interpolation: Interpolation of resizing; see `ops.view.View.image_to_network`.
        as_float: Convert the image to floats before it is resized and filled, so that nothing is rounded.
        kind: `image` is an image; `size` is the (height, width) that the image covers on the canvas.
    """

    channels: int = 3
    mode: Fit = "pad"
    size: int | Size | None = None
    max_size: int | None = None
    multiple_of: int = 1
    min_side: int = 1
    full_size: bool = False
    fill: float | tuple[float, ...] | Literal["edge"] = 0.0
    interpolation: Interpolation = "auto"
    as_float: bool = False
    kind: Literal["image", "size"] = "image"

    def view(self, original: Size) -> View:
        """The view of an image of this (height, width)."""
        return fit_view(original, self.mode, self.size, self.max_size, self.multiple_of, self.min_side, self.full_size)


@dataclass(frozen=True)
class Sample:
    """One or several images with their ground truth.

    Attributes:
        images: Name -> (H, W, C) array as stored: uint8, uint16, or float in [0, 1].
        truth: The ground truth, or None where it is unknown.
        id: Identifier in the dataset.
        file: File of the first image, for messages.
        damaged: Files of damaged images whose samples this one replaces.
        time: Seconds since the start of a live source; None elsewhere.
    """

    images: dict[str, np.ndarray]
    truth: Result | None = None
    id: int | str = 0
    file: str = ""
    damaged: tuple[str, ...] = ()
    time: float | None = None

    @property
    def size(self) -> Size:
        """(height, width) of the first image."""
        height, width = next(iter(self.images.values())).shape[:2]
        return height, width


class SampleSet(Protocol):
    """A dataset: a length, and samples by index.

    Attributes:
        notes: What was skipped or fixed while reading: one line per kind, with counts and names.
    """

    @property
    def notes(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class FirstSamples:
    """The first samples of a dataset."""

    samples: SampleSet
    count: int
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return min(self.count, len(self.samples))

    def __getitem__(self, index: int) -> Sample:
        return self.samples[range(len(self))[index]]


@runtime_checkable
class LocatedSamples(Protocol):
    """A dataset that knows the files of its images without reading them; by them joint models find common images."""

    def file(self, index: int) -> str:
        """Returns the `Sample.file` of a sample."""


@dataclass(frozen=True)
class Batch:
    """The input of a training step.

    Attributes:
        inputs: Name -> (B, C, H, W) float32 in [0, 1]; of kind `size`: (B, 2) float32.
        views: One view per sample, of its first image.
        targets: Targets of the losses, from `Task.collate_targets`.
        target_records: The ground truths on the model's canvas.
        ids: Identifiers of the samples, for messages.
        damaged: Files of damaged images whose samples were replaced.
    """

    inputs: dict[str, Tensor]
    views: list[View]
    targets: dict[str, Tensor]
    target_records: list[Result | None]
    ids: list[int | str]
    damaged: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Returns the batch with its tensors on a device."""

        def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}

        return replace(self, inputs=move(self.inputs), targets=move(self.targets))

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, from which copies to a GPU overlap with computation."""
        inputs = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
        targets = {name: tensor.pin_memory() for name, tensor in self.targets.items()}
        return replace(self, inputs=inputs, targets=targets)

    def __len__(self) -> int:
        return len(self.ids)


def prepare_inputs(samples: Sequence[Sample], specs: Mapping[str, InputSpec]) -> tuple[dict[str, Tensor], list[View]]:
    """Fits samples to the model's canvas and stacks them.

    Canvases of different sizes are padded at the right and the bottom to the largest; the views stay valid.

    Returns:
        The inputs by name, and one view per sample (of its first image).
    """
    import torch

    image_specs = {name: spec for name, spec in specs.items() if spec.kind == "image"}
    first = next(iter(image_specs.values()))
    views = [first.view(sample.size) for sample in samples]
    inputs = {}
    for name, spec in image_specs.items():
        known_views = views if spec == first else [None] * len(samples)
        canvases = [_fit_to_canvas(sample.images[name], spec, view) for sample, view in zip(samples, known_views)]
        inputs[name] = _stack_canvases(canvases, spec)
    for name, spec in specs.items():
        if spec.kind == "size":
            inputs[name] = torch.tensor([view.content for view in views], dtype=torch.float32)
    return inputs, views


def make_example_inputs(specs: Mapping[str, InputSpec], batch: int) -> dict[str, Tensor]:
    """Makes small random inputs for tracing a model; all axes differ, so that none is taken for another."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for name, spec in specs.items():
        cells = math.ceil(max(spec.min_side, 64) / spec.multiple_of)
        height, width = ((cells + extra) * spec.multiple_of for extra in (1, 2))
        inputs[name] = torch.rand(batch, spec.channels, height, width, generator=generator)
    sizes = [inputs[name].shape[2:] for name, spec in specs.items() if spec.kind == "image"]
    for name, spec in specs.items():
        if spec.kind == "size":
            inputs[name] = torch.tensor([[float(side) for side in sizes[0]]] * batch)
    return inputs


def warp_ground_truth(sample: Sample, view: View) -> Result | None:
    """Warps the ground truth of a sample onto the canvas of a view."""
    if sample.truth is None or view.is_identity:
        return sample.truth
    return sample.truth.warp(view.matrix, view.size)


def _fit_to_canvas(image: np.ndarray, spec: InputSpec, view: View | None = None) -> np.ndarray:
    image = convert_channels(image, spec.channels)
    image = to_unit_float(image) if spec.as_float or image.dtype.kind == "f" else image
    view = view if view is not None and view.original == image.shape[:2] else spec.view(image.shape[:2])
    if spec.fill == "edge":
        return view.image_to_network(image, "edge", spec.interpolation)
    fill: Any = np.asarray(spec.fill) * {"u1": 255, "u2": 65535}.get(image.dtype.str[1:], 1.0)
    return view.image_to_network(image, fill if fill.ndim else float(fill), spec.interpolation)


def _make_batch(shape: tuple[int, ...]) -> Tensor:
    """An empty float32 tensor; in a worker of a loader in shared memory, into which it would be copied afterwards."""
    import torch

    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.empty(0).untyped_storage()._new_shared(4 * math.prod(shape), device="cpu")
    return torch.empty(0).set_(storage, 0, shape)  # type: ignore[call-overload]


def _stack_canvases(canvases: list[np.ndarray], spec: InputSpec) -> Tensor:
    """Stacks (H, W, C) canvases into (B, C, H, W) float32 in [0, 1], padded to the largest.

    The memory is laid out as that of the canvases (`torch.channels_last`), which convolutions compute on, too.
    """
    import torch

    height, width = (max(canvas.shape[axis] for canvas in canvases) for axis in (0, 1))
    channels = canvases[0].shape[2]
    if spec.fill == "edge":
        canvases = [View(canvas.shape[:2], (height, width)).image_to_network(canvas, "edge") for canvas in canvases]
    batch = _make_batch((len(canvases), height, width, channels))
    if any(canvas.shape[:2] != (height, width) for canvas in canvases):
        batch[:] = torch.as_tensor(spec.fill, dtype=torch.float32)
    for row, canvas in zip(batch.numpy(), canvases):
        target = row[: canvas.shape[0], : canvas.shape[1]]
        if canvas.dtype.kind == "f":  # interpolation may leave [0, 1] by a rounding error
            np.clip(canvas, 0, 1, out=target)
        else:
            np.copyto(target, canvas)
            np.divide(target, np.float32(np.iinfo(canvas.dtype).max), out=target)
    return batch.permute(0, 3, 1, 2)
