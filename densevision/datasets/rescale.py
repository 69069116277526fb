"""Multi-scale training: a whole batch in another size, on the device where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from densevision.sample import Batch


def random_factor(amount: float) -> float:
    """A factor between 1 - amount and 1 + amount from torch's global generator, which the engine seeds per epoch."""
    return 1.0 + amount * float(torch.rand(()) * 2 - 1)


def rescale_batch(batch: Batch, factor: float, multiple_of: int, boxes: Sequence[str] = ("boxes",)) -> Batch:
    """The batch with its images resized to a factor of their size, and everything in pixels with them.

    Args:
        batch: Its inputs are images (B, C, H, W) of one size, and perhaps the size (B, 2) of what they show.
        factor: Wanted factor; each side is rounded to a multiple and is at least one.
        multiple_of: Of this.
        boxes: Names of targets (..., 4) that are xyxy in pixels; other targets do not depend on the size.
    """
    height, width = next(iter(batch.inputs.values())).shape[2:]
    size = tuple(max(1, round(side * factor / multiple_of)) * multiple_of for side in (height, width))
    if size == (height, width):
        return batch
    y, x = size[0] / height, size[1] / width
    # Without antialiasing a smaller image would show what the network never sees in prediction.
    inputs = {
        name: F.interpolate(given, size, mode="bilinear", antialias=True)
        if given.ndim == 4
        else (given * given.new_tensor([y, x])).floor()
        for name, given in batch.inputs.items()
    }
    targets = {
        name: target * target.new_tensor([x, y, x, y]) if name in boxes else target
        for name, target in batch.targets.items()
    }
    views = [
        replace(
            view,
            size=size,
            scale=(view.scale[0] * x, view.scale[1] * y),
            offset=(view.offset[0] * x, view.offset[1] * y),
        )
        for view in batch.views
    ]
    matrix = torch.tensor([[x, 0.0, 0.0], [0.0, y, 0.0]], dtype=torch.float64).numpy()
    ground_truths = [None if truth is None else truth.warp(matrix, size) for truth in batch.ground_truths]
    return replace(batch, inputs=inputs, targets=targets, views=views, ground_truths=ground_truths)
