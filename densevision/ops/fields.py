"""Per-pixel outputs as tensors: from the network's canvas to the pixels of the image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from densevision.ops.view import View

__all__ = ["resize_to_original"]


def resize_to_original(field: Tensor, view: View, scale: int = 1) -> Tensor:
    """Crops the padding off an output on the canvas and resizes it to the image, by linear interpolation.

    Args:
        field: (B, C, h, w) float, `scale` times the size of the canvas.
        view: The view through which the network saw the image.
        scale: Pixels of the field per pixel of the canvas, along each axis.

    Returns:
        (B, C, H, W), `scale` times the size of the image; shares memory with `field` if no resizing is needed.

    >>> import torch
    >>> resize_to_original(torch.arange(8.0).reshape(1, 1, 2, 4), View((2, 3), (2, 4)))
    tensor([[[[0., 1., 2.],
              [4., 5., 6.]]]])
    """
    height, width = (side * scale for side in view.content)
    x, y = (round(shift) * scale for shift in view.offset)
    field = field[..., y : y + height, x : x + width]
    size = view.original[0] * scale, view.original[1] * scale
    if field.shape[-2:] == size:
        return field
    return F.interpolate(field, size, mode="bilinear", align_corners=False, antialias=size[0] < field.shape[-2])
