"""What the first image shows and the second does not: predicted beside the flow, step by step; decided at every pixel
by what lies where the flow leads; or found by going there and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densevision.ops.warp import fetch_along, pixel_grid, splat_count
from densevision.tasks.flow.models.update_block import Predictor

SLOPE, OFFSET = 0.01, 0.5
"""How far from its start a way there and back may end: a part of both ways' squared lengths, and squared pixels."""
LOGIT, LOOKS, BEYOND = 5.0, 5.0, 4.0
"""What brings logits, differences of colors and pixels outside the image to about the size of 1."""


class OcclusionHead(Predictor):
    """Reads the occlusion of each cell from the memory; the next step sees it among what is known of the motion.

    A match that does not exist should not pull the flow: where a cell is hidden, its flow has to come from its
    neighbors, and a network that is told so learns to.

    Source: Neoral, Sochman and Matas, Continual Occlusions and Optical Flow Estimation, ACCV 2018; there
    between the levels of a pyramid, here between the steps of a recurrence.

    Args:
        hidden: Channels of the memory.
        width: Channels between.
    """

    def __init__(self, hidden: int, width: int):
        super().__init__(hidden, width, 1)


class OcclusionRefiner(nn.Module):
    """Decides at every pixel what the cells are too coarse to say.

    A hidden pixel gives itself away where its flow ends: the second image looks different there, something else
    arrives at the same place, or the image is left. A few convolutions weigh that against what the cells think. The
    flow takes no gradient from it.

    Args:
        width: Channels of the convolutions.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(5, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=4, dilation=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, logits: Tensor, flow: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """What the cells think (B, H, W), the flow (B, 2, H, W) and both images (B, C, H, W) in [0, 1] to logits.

        Returns:
            (B, H, W) float32.
        """
        evidence = torch.stack([logits / LOGIT, *_evidence(flow.detach(), first.float(), second.float())], 1)
        return logits + self.weigh(evidence)[:, 0].float()


def _evidence(flow: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """(B, H, W) each, of about the size of 1: difference in looks, rivals, how far outside, and whether outside."""
    height, width = flow.shape[2:]
    there, inside = fetch_along(torch.cat([second, splat_count(flow)], 1), flow)
    looks, rivals = there[:, :-1], there[:, -1] - 1
    x, y = (pixel_grid(height, width, flow) + flow).unbind(1)
    beyond = torch.stack([-x, -y, x - (width - 1), y - (height - 1)]).amax(0).clamp(-BEYOND, BEYOND) / BEYOND
    return LOOKS * (first - looks).abs().mean(1), rivals, beyond, (~inside).to(flow.dtype)


@torch.no_grad()
def forward_backward_inconsistent(forward: Tensor, backward: Tensor) -> Tensor:
    """Pixels that do not come back: occluded ones, and those whose flow is wrong in one of the directions.

    Source: Sundaram, Brox and Keutzer, Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow,
    ECCV 2010, eq. 5.

    Args:
        forward: (B, 2, H, W) from the first image to the second, in pixels.
        backward: (B, 2, H, W) from the second to the first.

    Returns:
        (B, H, W) bool; also true where the flow leaves the image.
    """
    back, inside = fetch_along(backward, forward)
    away = (forward + back).square().sum(1)
    lengths = forward.square().sum(1) + back.square().sum(1)
    return ~inside | (away > SLOPE * lengths + OFFSET)
