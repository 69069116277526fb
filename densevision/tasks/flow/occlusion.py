"""What the first picture shows and the second does not: predicted beside the flow, or found by going there and back."""

from __future__ import annotations

import torch
from torch import Tensor

from densevision.ops.warp import fetch_along
from densevision.tasks.flow.update import Predictor

SLOPE, OFFSET = 0.01, 0.5
"""How far from its start a way there and back may end: a part of both ways' squared lengths, and squared pixels."""


class OcclusionHead(Predictor):
    """Reads the occlusion of each cell from the memory; the next step sees it among what is known of the motion.

    A match that does not exist should not pull the flow: where a cell is hidden, its flow has to come from its
    neighbours, and a network that is told so learns to.

    Source: Neoral, Sochman and Matas, Continual Occlusions and Optical Flow Estimation, ACCV 2018; there
    between the levels of a pyramid, here between the steps of a recurrence.

    Args:
        hidden: Channels of the memory.
        width: Channels between.
    """

    def __init__(self, hidden: int, width: int):
        super().__init__(hidden, width, 1)


@torch.no_grad()
def unreturned(forward: Tensor, backward: Tensor) -> Tensor:
    """Pixels that do not come back: occluded ones, and those whose flow is wrong in one of the directions.

    Source: Sundaram, Brox and Keutzer, Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow,
    ECCV 2010, eq. 5.

    Args:
        forward: (B, 2, H, W) from the first picture to the second, in pixels.
        backward: (B, 2, H, W) from the second to the first.

    Returns:
        (B, H, W) bool; also true where the flow leaves the picture.
    """
    back, inside = fetch_along(backward, forward)
    away = (forward + back).square().sum(1)
    lengths = forward.square().sum(1) + back.square().sum(1)
    return ~inside | (away > SLOPE * lengths + OFFSET)
