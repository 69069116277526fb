"""Boxes as deltas relative to reference boxes: what both stages predict.

Source: Girshick et al., R-CNN, CVPR 2014, appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["BOX_CODER", "RPN_CODER", "BoxCoder", "clip_boxes", "compute_min_side"]

MAX_LOG_SCALE = math.log(1000 / 16)
"""Limit of the predicted logarithm by which a side grows."""


class BoxCoder:
    """Encodes and decodes boxes.

    Args:
        weights: Factors of the deltas in x, y, width and height.
    """

    def __init__(self, weights: tuple[float, float, float, float]):
        self.weights = weights

    def encode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """Deltas (..., 4) from reference boxes (..., 4) to boxes (..., 4).

        >>> BoxCoder((1, 1, 1, 1)).encode(torch.tensor([2.0, 0, 6, 4]), torch.tensor([0.0, 0, 4, 4]))
        tensor([0.5000, 0.0000, 0.0000, 0.0000])
        """
        x, y, width, height = _to_centers(references)
        box_x, box_y, box_width, box_height = _to_centers(boxes)
        deltas = (box_x - x) / width, (box_y - y) / height, (box_width / width).log(), (box_height / height).log()
        return torch.stack([weight * delta for weight, delta in zip(self.weights, deltas)], -1)

    def decode(self, deltas: Tensor, references: Tensor) -> Tensor:
        """Boxes (..., 4) from deltas (..., 4) relative to reference boxes (..., 4); inverse of `encode`.

        >>> BoxCoder((1, 1, 1, 1)).decode(torch.tensor([0.5, 0, 0, 0]), torch.tensor([0.0, 0, 4, 4]))
        tensor([2., 0., 6., 4.])
        """
        x, y, width, height = _to_centers(references)
        dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(-1), self.weights))
        x, y = dx * width + x, dy * height + y
        half_width = 0.5 * (dw.clamp(max=MAX_LOG_SCALE).exp() * width)
        half_height = 0.5 * (dh.clamp(max=MAX_LOG_SCALE).exp() * height)
        return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


RPN_CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))
"""Proposals relative to anchors."""
BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
"""Detections relative to proposals, from which they differ little."""


def clip_boxes(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Clips boxes to their images.

    Args:
        boxes: (B, K, 4) xyxy in pixels.
        image_sizes: (B, 2) height and width of each image.
    """
    limits = image_sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
    return boxes.clamp(min=0).minimum(limits)


def compute_min_side(boxes: Tensor) -> Tensor:
    """The shorter side (...) of boxes (..., 4)."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1)


def _to_centers(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(-1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height
