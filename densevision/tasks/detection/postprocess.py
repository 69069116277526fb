"""Predictions to records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from densevision.ops.view import View
from densevision.results import Detections
from densevision.tasks.detection.config import DetectionConfig

__all__ = ["make_records"]


def make_records(predictions: dict[str, Tensor], views: Sequence[View], config: DetectionConfig) -> list[Detections]:
    """Records in pixels of the original images; boxes that lie outside are left out.

    Args:
        predictions: "boxes" (B, K, 4) in pixels of the canvas, "scores", "labels", "valid" (B, K), on the CPU.
        views: How the model saw each image.
        config: Class names and category ids.
    """
    records = []
    arrays = (predictions[name].numpy() for name in ("boxes", "scores", "labels", "valid"))
    for view, boxes, scores, labels, valid in zip(views, *arrays):
        boxes = view.boxes_to_original(boxes).astype(np.float32)
        keep = valid & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        record = Detections.from_arrays(
            boxes[keep],
            labels[keep],
            config.classes or (),
            view.original,
            scores=scores[keep],
            category_ids=config.category_ids,
        )
        records.append(record)
    return records
