"""Boxes as offsets from a reference box: what both stages predict.

Source: Girshick et al., R-CNN, CVPR 2014, appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Scales = tuple[float, float, float, float]

PROPOSAL_SCALES: Scales = (1.0, 1.0, 1.0, 1.0)
"""What the first stage multiplies its offsets in x, y, width and height by."""
BOX_SCALES: Scales = (10.0, 10.0, 5.0, 5.0)
"""The same of the second stage, whose offsets are small."""
LARGEST = math.log(1000 / 16)
"""Limit of the logarithm by which a side grows."""


def encode(boxes: Tensor, references: Tensor, scales: Scales) -> Tensor:
    """Offsets (..., 4) that lead from reference boxes (..., 4) to boxes (..., 4).

    >>> encode(torch.tensor([2.0, 0, 6, 4]), torch.tensor([0.0, 0, 4, 4]), PROPOSAL_SCALES)
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    x, y, width, height = _centered(references)
    own_x, own_y, own_width, own_height = _centered(boxes)
    offsets = (own_x - x) / width, (own_y - y) / height, (own_width / width).log(), (own_height / height).log()
    return torch.stack([scale * offset for scale, offset in zip(scales, offsets)], -1)


def decode(offsets: Tensor, references: Tensor, scales: Scales) -> Tensor:
    """The boxes (..., 4) to which offsets (..., 4) lead from reference boxes (..., 4); inverse of `encode`.

    >>> decode(torch.tensor([0.5, 0, 0, 0]), torch.tensor([0.0, 0, 4, 4]), PROPOSAL_SCALES)
    tensor([2., 0., 6., 4.])
    """
    x, y, width, height = _centered(references)
    right, down, wider, taller = (part / scale for part, scale in zip(offsets.unbind(-1), scales))
    x, y = right * width + x, down * height + y
    half_width = 0.5 * (wider.clamp(max=LARGEST).exp() * width)
    half_height = 0.5 * (taller.clamp(max=LARGEST).exp() * height)
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def clipped(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes (B, K, 4) cut off at the borders of their images.

    Args:
        boxes: xyxy in pixels.
        size: (B, 2) height and width of each image.
    """
    limit = size.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
    return boxes.clamp(min=0).minimum(limit)


def least_side(boxes: Tensor) -> Tensor:
    """The shorter side (...) of boxes (..., 4)."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1)


def _centered(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(-1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height
