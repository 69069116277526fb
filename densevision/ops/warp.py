"""Warping by optical flow: differentiable sampling, and bilinear splatting."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["get_bilinear_neighbors", "pixel_grid", "sample_along_flow", "splat_count"]


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """x and y of every pixel, (2, H, W), where (0, 0) is the center of the first; type and device are those of `like`.

    >>> pixel_grid(1, 3, torch.zeros(1))[0]
    tensor([[0., 1., 2.]])
    """
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def sample_along_flow(field: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Samples a field of the second image at the end points of the flow, by bilinear interpolation.

    Args:
        field: (B, C, H, W) of the second image.
        flow: (B, 2, H, W) from the first image to the second, right and down in pixels.

    Returns:
        (B, C, H, W) aligned with the first image, padded by the border outside; and (B, H, W) bool, whether the flow
        ends inside the image.
    """
    height, width = flow.shape[2:]
    target = pixel_grid(height, width, flow) + flow
    sides = torch.tensor([width, height], dtype=flow.dtype, device=flow.device).view(2, 1, 1)
    corners = (target + 0.5) / sides
    grid = (2 * corners - 1).permute(0, 2, 3, 1)
    sampled = F.grid_sample(field, grid.to(field.dtype), padding_mode="border", align_corners=False)
    return sampled, ((corners >= 0) & (corners < 1)).all(1)


def get_bilinear_neighbors(positions: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields x, y and bilinear weight, (B, H, W) each, of the four pixels around positions (B, 2, H, W)."""
    corner = positions.floor()
    fraction = positions - corner
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight_x = fraction[:, 0] if right else 1 - fraction[:, 0]
        weight_y = fraction[:, 1] if down else 1 - fraction[:, 1]
        yield corner[:, 0] + right, corner[:, 1] + down, weight_x * weight_y


def splat_count(flow: Tensor) -> Tensor:
    """Counts how many pixels of the first image move onto each pixel of the second, distributed bilinearly.

    The count is 1 for one-to-one motion, larger where pixels are covered, and 0 where new content appears.

    Source: the range map of Wang et al., Occlusion Aware Unsupervised Learning of Optical Flow, CVPR 2018, section 3.2.

    Args:
        flow: (B, 2, H, W) from the first image to the second, right and down in pixels.

    Returns:
        (B, 1, H, W), in the type of the flow.
    """
    batch, _, height, width = flow.shape
    counts = flow.new_zeros(batch, height * width)
    for x, y, weight in get_bilinear_neighbors(pixel_grid(height, width, flow) + flow):
        is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
        counts = counts.scatter_add(1, index.flatten(1), (weight * is_inside).flatten(1))
    return counts.view(batch, 1, height, width)
