"""Multi-scale training: resizes a batch on its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.view import View
from densevision.sample import Batch

__all__ = ["rescale_batch", "sample_scale_factor"]


def sample_scale_factor(amount: float) -> float:
    """Samples a factor in [1 - amount, 1 + amount] from torch's global generator, which training seeds per epoch."""
    return 1.0 + amount * float(torch.rand(()) * 2 - 1)


def rescale_batch(batch: Batch, factor: float, multiple_of: int, boxes: Sequence[str] = ("boxes",)) -> Batch:
    """Resizes the images of a batch and scales everything that is in pixels.

    Args:
        batch: Its inputs are images (B, C, H, W) of one size, and optionally content sizes (B, 2).
        factor: Scale factor; each side is rounded to a multiple of `multiple_of` and is at least one multiple.
        multiple_of: Divisor of the new sides.
        boxes: Names of targets (..., 4) that are xyxy in pixels; other targets do not depend on the size.
    """
    height, width = next(iter(batch.inputs.values())).shape[2:]
    size = _round_to_multiple(height * factor, multiple_of), _round_to_multiple(width * factor, multiple_of)
    if size == (height, width):
        return batch
    y, x = size[0] / height, size[1] / width

    def resize(tensor: Tensor) -> Tensor:
        if tensor.ndim != 4:
            return (tensor * tensor.new_tensor([y, x])).floor()
        # Without antialiasing a smaller image would show patterns that the network never sees in prediction.
        return F.interpolate(tensor, size, mode="bilinear", antialias=True)

    def scale_view(view: View) -> View:
        offset = (view.offset[0] * x, view.offset[1] * y)
        return replace(view, size=size, scale=(view.scale[0] * x, view.scale[1] * y), offset=offset)

    targets = {
        name: target * target.new_tensor([x, y, x, y]) if name in boxes else target
        for name, target in batch.targets.items()
    }
    matrix = torch.tensor([[x, 0.0, 0.0], [0.0, y, 0.0]], dtype=torch.float64).numpy()
    return replace(
        batch,
        inputs={name: resize(tensor) for name, tensor in batch.inputs.items()},
        targets=targets,
        views=[scale_view(view) for view in batch.views],
        target_records=[None if truth is None else truth.warp(matrix, size) for truth in batch.target_records],
    )


def _round_to_multiple(side: float, multiple_of: int) -> int:
    return max(1, round(side / multiple_of)) * multiple_of
