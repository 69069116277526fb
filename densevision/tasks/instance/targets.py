"""Ground truths of a batch as tensors: boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.datasets.targets import stack_object_targets
from densevision.ops.masks import decode
from densevision.results import Instances
from densevision.tasks.instance.config import InstanceConfig

__all__ = ["stack_instance_targets"]


def stack_instance_targets(target_records: Sequence[Instances | None], config: InstanceConfig) -> dict[str, Tensor]:
    """Stacks objects on the canvas, padded to the same number.

    Args:
        target_records: One record per image; None for unlabeled images.
        config: Whether there are masks and keypoints.

    Returns:
        What `stack_object_targets` returns; and "masks" (B, N, H, W) bool and "keypoints" (B, N, K, 3) x, y,
        visibility, if there are any.
    """
    targets = stack_object_targets(target_records)
    shape = targets["labels"].shape
    labeled = [(row, truth) for row, truth in enumerate(target_records) if truth is not None and len(truth)]
    if config.has_masks:
        height, width = (max([1, *(truth.size[axis] for _, truth in labeled)]) for axis in (0, 1))
        masks = np.zeros((*shape, height, width), bool)
        for row, truth in labeled:
            for target, mask in zip(masks[row], truth.masks or ()):
                target[: truth.size[0], : truth.size[1]] = decode(mask)
        targets["masks"] = torch.from_numpy(masks)
    if config.has_keypoints:
        points = np.zeros((*shape, len(config.keypoint_names or ()), 3), np.float32)
        for row, truth in labeled:
            points[row, : len(truth)] = truth.keypoints
        targets["keypoints"] = torch.from_numpy(points)
    return targets
