"""Occlusion: refined at every pixel by what lies at the end of the flow, or found by forward-backward consistency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densevision.ops.warp import pixel_grid, sample_along_flow, splat_count

__all__ = ["OcclusionRefiner", "find_inconsistent"]

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.01, 0.5
"""Allowed squared round-trip error: a fraction of both flows' squared lengths, and squared pixels."""
LOGIT_SCALE, COLOR_SCALE, MAX_OUTSIDE = 5.0, 5.0, 4.0
"""Bring logits, color differences and distances outside the image to about the size of 1."""


class OcclusionRefiner(nn.Module):
    """Decides at every pixel what is too fine for cells.

    Evidence of an occluded pixel is found at the end of its flow: the second image looks different there, another
    pixel arrives at the same place, or the image is left. A few convolutions combine that with the cells' prediction.
    No gradient reaches the flow.

    Args:
        width: Channels of the convolutions.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(5, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=4, dilation=4),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, logits: Tensor, flow: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Refines the logits.

        Args:
            logits: (B, H, W) upsampled prediction of the cells.
            flow: (B, 2, H, W) in pixels.
            first: (B, C, H, W) in [0, 1].
            second: Same shape.

        Returns:
            (B, H, W) float32 logits.
        """
        evidence = _gather_evidence(flow.detach(), first.float(), second.float())
        return logits + self.layers(torch.stack([logits / LOGIT_SCALE, *evidence], 1))[:, 0].float()


def _gather_evidence(flow: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """(B, H, W) each, about the size of 1: color difference, other arrivals, distance outside, and whether outside."""
    height, width = flow.shape[2:]
    fetched, inside = sample_along_flow(torch.cat([second, splat_count(flow)], 1), flow)
    colors, splat_counts = fetched[:, :-1], fetched[:, -1] - 1
    x, y = (pixel_grid(height, width, flow) + flow).unbind(1)
    outside = torch.stack([-x, -y, x - (width - 1), y - (height - 1)]).amax(0)
    distance = outside.clamp(-MAX_OUTSIDE, MAX_OUTSIDE) / MAX_OUTSIDE
    return COLOR_SCALE * (first - colors).abs().mean(1), splat_counts, distance, (~inside).to(flow.dtype)


@torch.no_grad()
def find_inconsistent(forward: Tensor, backward: Tensor) -> Tensor:
    """Finds pixels that do not return: occluded ones, and those whose flow is wrong in one of the directions.

    Source: Sundaram, Brox and Keutzer, Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow,
    ECCV 2010, eq. 5.

    Args:
        forward: (B, 2, H, W) from the first image to the second, in pixels.
        backward: (B, 2, H, W) from the second to the first.

    Returns:
        (B, H, W) bool; also true where the flow leaves the image.
    """
    back, inside = sample_along_flow(backward, forward)
    error = (forward + back).square().sum(1)
    lengths = forward.square().sum(1) + back.square().sum(1)
    return ~inside | (error > RELATIVE_TOLERANCE * lengths + ABSOLUTE_TOLERANCE)
