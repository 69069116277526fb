"""What flows between data and network: a Sample is one reading, a Batch is what a step eats.

Reading samples needs no torch: it is imported where tensors are made, so that checks and conversions start without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from densevision.io.image import to_channels, to_unit_float
from densevision.ops.view import Fit, Interpolation, Size, View, fit
from densevision.results import Result

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class InputSpec:
    """The size rule of one named input of a network.

    Attributes:
        channels: Channels of the image.
        how: How an image is brought to the network; see `ops.view.fit`.
        size: Target of `letterbox`, `shortest` and `cover`: a side, or (height, width).
        longest: Limit of the longer side under `shortest`.
        multiple_of: Each side of the canvas is a multiple of this.
        minimum: Least side of the canvas.
        whole: `letterbox` fills the whole of `size`.
        fill: Value in [0, 1] per channel, or for all, of the canvas outside the image; `edge` continues the image.
        interpolation: How an image is resized; `auto` averages over areas or interpolates linearly.
        floats: Bring the image to floats before it is resized and filled, so that nothing is rounded on the way.
        kind: `image` goes through the encoder; `size` is the (height, width) that the image covers on its canvas,
            handed to the head as it is.
    """

    channels: int = 3
    how: Fit = "pad"
    size: int | Size | None = None
    longest: int | None = None
    multiple_of: int = 1
    minimum: int = 1
    whole: bool = False
    fill: float | tuple[float, ...] | Literal["edge"] = 0.0
    interpolation: Interpolation = "auto"
    floats: bool = False
    kind: Literal["image", "size"] = "image"

    def view(self, original: Size) -> View:
        """The view of an image of this size."""
        return fit(original, self.how, self.size, self.longest, self.multiple_of, self.minimum, self.whole)


@dataclass(frozen=True)
class Sample:
    """One reading: its image or images, and what is true of them.

    Attributes:
        images: Name -> (H, W, C) array as read: uint8, uint16, or float in [0, 1].
        truth: The record, or None where nothing is known.
        id: Identity in the dataset, by which evaluation sorts.
        file: Where it was read from, for messages.
    """

    images: dict[str, np.ndarray]
    truth: Result | None = None
    id: int | str = 0
    file: str = ""

    @property
    def size(self) -> Size:
        """(height, width) of the first image."""
        return next(iter(self.images.values())).shape[:2]


class SampleSet(Protocol):
    """A dataset: a length, and a pure reading by index. What it left out or fixed is counted and named."""

    notes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Batch:
    """What a step eats.

    Attributes:
        inputs: Name -> (B, C, H, W) float32 in [0, 1]; of kind `size`: (B, 2) float32.
        views: One view per sample, of its first image.
        targets: What the task's losses compare with, from `Task.targets`.
        truths: The records on the network's canvas.
        ids: Identities of the samples, for messages.
    """

    inputs: dict[str, Tensor]
    views: list[View]
    targets: dict[str, Tensor]
    ground_truths: list[Result | None]
    ids: list[int | str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with its tensors on a device."""

        def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}

        return replace(self, inputs=moved(self.inputs), targets=moved(self.targets))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which copies to a GPU overlap with work."""
        inputs = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
        return replace(
            self, inputs=inputs, targets={name: tensor.pin_memory() for name, tensor in self.targets.items()}
        )

    def __len__(self) -> int:
        return len(self.ids)


def to_inputs(samples: Sequence[Sample], specs: dict[str, InputSpec]) -> tuple[dict[str, Tensor], list[View]]:
    """Brings samples onto the network's canvas and stacks them.

    Canvases of different sizes are padded at the right and the bottom to the largest; the views stay true.

    Returns:
        The inputs by name, and one view per sample (of its first image).
    """
    import torch

    images = {name: spec for name, spec in specs.items() if spec.kind == "image"}
    first = next(iter(images.values()))
    views = [first.view(sample.size) for sample in samples]
    inputs = {
        name: _stack([_on_canvas(sample, name, spec) for sample in samples], spec) for name, spec in images.items()
    }
    for name, spec in specs.items():
        if spec.kind == "size":
            inputs[name] = torch.tensor([view.content for view in views], dtype=torch.float32)
    return inputs, views


def truth_on_canvas(sample: Sample, view: View) -> Result | None:
    """The truth as the network sees it: warped by the view, or itself where the view changes nothing."""
    if sample.truth is None or view.identity:
        return sample.truth
    return sample.truth.warp(view.matrix, view.size)


def _on_canvas(sample: Sample, name: str, spec: InputSpec) -> np.ndarray:
    image = to_channels(sample.images[name], spec.channels)
    image = to_unit_float(image) if spec.floats or image.dtype.kind == "f" else image
    view = spec.view(image.shape[:2])
    if spec.fill == "edge":
        return view.image_to_network(image, "edge", spec.interpolation)
    fill: Any = np.asarray(spec.fill) * {"u1": 255, "u2": 65535}.get(image.dtype.str[1:], 1.0)
    return view.image_to_network(image, fill if fill.ndim else float(fill), spec.interpolation)


def _stack(canvases: list[np.ndarray], spec: InputSpec) -> Tensor:
    import torch

    height, width = (max(canvas.shape[axis] for canvas in canvases) for axis in (0, 1))
    channels = canvases[0].shape[2]
    if spec.fill == "edge":
        canvases = [View(canvas.shape[:2], (height, width)).image_to_network(canvas, "edge") for canvas in canvases]
    stacked = torch.empty((len(canvases), channels, height, width))
    if any(canvas.shape[:2] != (height, width) for canvas in canvases):
        stacked[:] = torch.as_tensor(spec.fill, dtype=torch.float32).reshape(-1, 1, 1)
    for row, canvas in zip(stacked, canvases):
        own = row[:, : canvas.shape[0], : canvas.shape[1]]
        if canvas.dtype.kind == "f":  # looked at before it was resized; interpolation may leave [0, 1] by a rounding
            # NumPy takes a mirrored axis of one pixel for contiguous, and torch does not.
            canvas = canvas if min(canvas.strides) > 0 else canvas.copy()
            torch.clamp(torch.from_numpy(canvas).permute(2, 0, 1), 0, 1, out=own)
        else:
            own.copy_(torch.from_numpy(np.ascontiguousarray(to_unit_float(canvas).transpose(2, 0, 1))))
    return stacked
