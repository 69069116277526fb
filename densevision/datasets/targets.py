"""Ground truths of a batch as tensors for losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.results import Detections, Image

__all__ = ["fill_unknown_pixels", "stack_image_targets", "stack_object_targets"]


def stack_object_targets(target_records: Sequence[Detections | None]) -> dict[str, Tensor]:
    """Stacks boxes on the canvas, padded to the same number of objects.

    Args:
        target_records: One record per image; None for unlabeled images.

    Returns:
        "boxes" (B, N, 4) float32, "labels" (B, N) int64, and as bool "valid" (B, N), False for padding; "crowd" (B, N),
        regions of many objects; "known" (B,), False for unlabeled images. N is at least 1.
    """
    batch_size = len(target_records)
    max_objects = max((len(truth) for truth in target_records if truth is not None), default=0)
    boxes = np.zeros((batch_size, max(1, max_objects), 4), np.float32)
    labels = np.zeros(boxes.shape[:2], np.int64)
    valid, crowd = np.zeros(boxes.shape[:2], bool), np.zeros(boxes.shape[:2], bool)
    for row, truth in enumerate(target_records):
        if truth is not None:
            index = row, slice(len(truth))
            boxes[index], labels[index], valid[index], crowd[index] = truth.boxes, truth.labels, True, truth.crowd
    known = np.array([truth is not None for truth in target_records], bool)
    arrays = {"boxes": boxes, "labels": labels, "valid": valid, "crowd": crowd, "known": known}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def stack_image_targets(target_records: Sequence[Image | None], channels: int, scale: int = 1) -> dict[str, Tensor]:
    """Stacks target images of any size, padded at the bottom and right.

    Args:
        target_records: One image per sample; None for unlabeled samples.
        channels: Channels of the network's output.
        scale: Side in pixels of the targets of a batch without any ground truth.

    Returns:
        "image" (B, channels, H, W) float32 in [0, 1] and "known" (B, 1, H, W) bool, False for padding.
    """
    sizes = [truth.size for truth in target_records if truth is not None] or [(scale, scale)]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    image = torch.full((len(target_records), channels, height, width), torch.nan)
    for target, truth in zip(image, target_records):
        if truth is not None:
            pixels = torch.from_numpy(np.ascontiguousarray(truth.unit().transpose(2, 0, 1)))
            target[:, : truth.size[0], : truth.size[1]] = pixels
    known = image.isfinite().all(1, keepdim=True)
    return {"image": image.nan_to_num(), "known": known}


def fill_unknown_pixels(prediction: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns prediction and target for networks that compare complete images (discriminators, perceptual losses).

    Unknown target pixels are replaced by the detached prediction, so that they contribute no difference.

    Args:
        prediction: (B, C, H, W).
        targets: As returned by `stack_image_targets`.
    """
    prediction = prediction.float()
    return prediction, torch.where(targets["known"], targets["image"], prediction.detach())
