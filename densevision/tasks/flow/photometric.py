"""Learning flow without truth: what a pixel shows should be found again where the flow says it went.

Source: Meister, Hur and Roth, UnFlow: Unsupervised Learning of Optical Flow with a Bidirectional Census Loss, AAAI
2018; Jonschkowski et al., What Matters in Unsupervised Optical Flow, ECCV 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.warp import fetch_along

SOFT, FAR = 0.81, 0.1
"""Constants of the soft census: of the sign of a difference in gray levels, and of the distance of two signs."""
EDGE = 150.0
"""How sharply smoothness is waived where the image changes."""


def photometric_losses(first: Tensor, second: Tensor, flow: Tensor, lost: Tensor, radius: int) -> dict[str, Tensor]:
    """Census distance where the first image is seen in the second, and changes of the flow where it has no edges.

    Args:
        first: (B, 3, H, W) in [0, 1].
        second: (B, 3, H, W).
        flow: (B, 2, H, W) from the first to the second, in pixels.
        lost: (B, H, W) bool, pixels that the second does not show.
        radius: Pixels to each side that describe a pixel.

    Returns:
        "census" and "smoothness", scalars.
    """
    fetched, inside = fetch_along(second, flow)
    counted = (inside & ~lost)[:, None].to(flow.dtype) * _inner(flow, radius)
    distance = census_distance(first, fetched, radius)
    robust = (distance + 0.01) ** 0.4
    census = (robust * counted).sum() / counted.sum().clamp(min=1)
    return {"census": census, "smoothness": smoothness(first, flow)}


def census_distance(one: Tensor, other: Tensor, radius: int) -> Tensor:
    """How differently two images (B, 3, H, W) order the gray of each pixel and its neighbors: (B, 1, H, W).

    Unlike the difference of colors, it hardly changes with the light.
    """
    codes = []
    for image in (one, other):
        gray = 255 * image.mean(1, keepdim=True)
        side = 2 * radius + 1
        around = F.unfold(F.pad(gray, [radius] * 4, mode="replicate"), side).unflatten(2, gray.shape[2:])
        difference = around - gray
        codes.append(difference / torch.sqrt(SOFT + difference.square()))
    apart = (codes[0] - codes[1]).square()
    return (apart / (FAR + apart)).mean(1, keepdim=True)


def smoothness(image: Tensor, flow: Tensor) -> Tensor:
    """Mean change of the flow from pixel to pixel, where the image does not change: a scalar."""
    total = flow.new_zeros(())
    for axis in (2, 3):
        if flow.shape[axis] > 1:
            edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
            total = total + (flow.diff(dim=axis).abs() * torch.exp(-EDGE * edge)).mean()
    return total


def _inner(flow: Tensor, radius: int) -> Tensor:
    """1 where the neighbourhood of a pixel lies inside the image: (1, 1, H, W)."""
    mask = flow.new_zeros(1, 1, *flow.shape[2:])
    mask[..., radius:-radius, radius:-radius] = 1
    return mask
