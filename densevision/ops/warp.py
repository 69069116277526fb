"""Images and fields read at other places than their pixels: differentiable warping, and what arrives where."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """x and y of every pixel, (2, H, W), (0, 0) the center of the first; of the type and on the device of `like`.

    >>> pixel_grid(1, 3, torch.zeros(1))[0]
    tensor([[0., 1., 2.]])
    """
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    columns = torch.arange(width, device=like.device, dtype=like.dtype)
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def fetch_along(field: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """What lies at the other end of the flow, interpolated linearly, and where that is inside.

    Args:
        field: (B, C, H, W) of the second image.
        flow: (B, 2, H, W) from the first image to the second, right and down in pixels.

    Returns:
        (B, C, H, W) as the first image would see it, outside continued by its border; and (B, H, W) bool, whether
        the flow ends inside the image.
    """
    height, width = flow.shape[2:]
    target = pixel_grid(height, width, flow) + flow
    sides = torch.tensor([width, height], dtype=flow.dtype, device=flow.device).view(2, 1, 1)
    corners = (target + 0.5) / sides
    places = (2 * corners - 1).permute(0, 2, 3, 1)
    fetched = F.grid_sample(field, places.to(field.dtype), padding_mode="border", align_corners=False)
    return fetched, ((corners >= 0) & (corners < 1)).all(1)


def neighbors(places: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The four pixels around places (B, 2, H, W), each as x, y and its share in linear interpolation, (B, H, W)."""
    corner = places.floor()
    part = places - corner
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
        yield corner[:, 0] + right, corner[:, 1] + down, share


def splat_count(flow: Tensor) -> Tensor:
    """How many pixels of the first image come to lie on each pixel of the second, shared out bilinearly.

    1 where the motion is one to one, more where things are covered, 0 where something new is seen.

    Source: the range map of Wang et al., Occlusion Aware Unsupervised Learning of Optical Flow, CVPR 2018, section 3.2.

    Args:
        flow: (B, 2, H, W) from the first image to the second, right and down in pixels.

    Returns:
        (B, 1, H, W), of the type of the flow.
    """
    batch, _, height, width = flow.shape
    counts = flow.new_zeros(batch, height * width)
    for x, y, share in neighbors(pixel_grid(height, width, flow) + flow):
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
        counts = counts.scatter_add(1, place.flatten(1), (share * inside).flatten(1))
    return counts.view(batch, 1, height, width)
