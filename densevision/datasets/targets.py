"""Truths of objects as tensors for losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.results import Detections


def stack(ground_truths: Sequence[Detections | None]) -> dict[str, Tensor]:
    """Truths on the canvas, padded to the same number of objects.

    Args:
        truths: One record per image; None where nothing is known.

    Returns:
        "boxes" (B, N, 4), "labels" (B, N), and as bool "valid" (B, N): no padding; "crowd" (B, N): regions of many
        objects; "known" (B,): images whose background is background. N is at least 1.
    """
    batch, most = len(ground_truths), max((len(truth) for truth in ground_truths if truth is not None), default=0)
    boxes = np.zeros((batch, max(1, most), 4), np.float32)
    labels = np.zeros(boxes.shape[:2], np.int64)
    valid, crowd = np.zeros(boxes.shape[:2], bool), np.zeros(boxes.shape[:2], bool)
    for row, truth in enumerate(ground_truths):
        if truth is not None:
            filled = row, slice(len(truth))
            boxes[filled], labels[filled], valid[filled], crowd[filled] = truth.boxes, truth.labels, True, truth.crowd
    known = np.array([truth is not None for truth in ground_truths], bool)
    arrays = {"boxes": boxes, "labels": labels, "valid": valid, "crowd": crowd, "known": known}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
