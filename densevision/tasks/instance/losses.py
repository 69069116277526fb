"""What the network is trained on: truths as tensors, and the weighted losses of its stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.datasets.targets import stack
from densevision.nn.rcnn.matcher import ground_truths_of
from densevision.ops.masks import decode
from densevision.results import Instances
from densevision.sample import Batch
from densevision.tasks.base import DenseModel
from densevision.tasks.instance.config import InstanceConfig


def targets(ground_truths: Sequence[Instances | None], config: InstanceConfig) -> dict[str, Tensor]:
    """Truths on the canvas, padded to the same number of objects.

    Args:
        truths: One record per image; None where nothing is known.
        config: Which heads there are.

    Returns:
        What `data.targets.stack` returns; "masks" (B, N, H, W) bool and "keypoints" (B, N, K, 3), as the heads need.
    """
    stacked = stack(ground_truths)
    shape = stacked["labels"].shape
    known = [(row, truth) for row, truth in enumerate(ground_truths) if truth is not None and len(truth)]
    if config.masks:
        height, width = (max([1, *(truth.size[axis] for _, truth in known)]) for axis in (0, 1))
        masks = np.zeros((*shape, height, width), bool)
        for row, truth in known:
            for place, mask in zip(masks[row], truth.masks):
                place[: truth.size[0], : truth.size[1]] = decode(mask)
        stacked["masks"] = torch.from_numpy(masks)
    if config.keypoints:
        points = np.zeros((*shape, len(config.keypoint_names or ()), 3), np.float32)
        for row, truth in known:
            points[row, : len(truth)] = truth.keypoints
        stacked["keypoints"] = torch.from_numpy(points)
    return stacked


def instance_losses(net: DenseModel, batch: Batch, config: InstanceConfig) -> dict[str, Tensor]:
    """The weighted losses of all stages: "objectness", "proposal", "class", "box", "mask", "keypoint"."""
    losses = net.head.losses(**net.features(**batch.inputs), ground_truths=ground_truths_of(batch.targets))
    weights = {**config.loss.model_dump(), "class": config.loss.classification}
    return {name: weights[name] * value for name, value in losses.items()}
