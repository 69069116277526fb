"""True images as tensors for losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.results import Image


def stack_images(ground_truths: Sequence[Image | None], channels: int, scale: int = 1) -> dict[str, Tensor]:
    """Targets of any sizes in one tensor.

    Args:
        truths: None where nothing is known.
        channels: Of the network's answer.
        scale: A batch of which nothing is known gets targets of the least size, `scale` pixels a side.

    Returns:
        "image" (B, channels, H, W) in [0, 1] and "known" (B, 1, H, W) bool.
    """
    sizes = [truth.size for truth in ground_truths if truth is not None] or [(scale, scale)]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    image = torch.full((len(ground_truths), channels, height, width), torch.nan)
    for row, truth in zip(image, ground_truths):
        if truth is not None:
            pixels = torch.from_numpy(np.ascontiguousarray(truth.unit().transpose(2, 0, 1)))
            row[:, : truth.size[0], : truth.size[1]] = pixels
    known = image.isfinite().all(1, keepdim=True)
    return {"image": image.nan_to_num(), "known": known}


def where_known(answer: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Answer and target for networks that look at whole images: what is not known is taken from the answer.

    Args:
        answer: (B, C, H, W).
        targets: Of `stack_images`.
    """
    answer = answer.float()
    return answer, torch.where(targets["known"], targets["image"], answer.detach())
