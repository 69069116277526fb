"""Predictions to records, and records of several views to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from densevision.ops.merging import merge_boxes, tile_windows
from densevision.ops.view import View
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.tasks.detection.config import DetectionConfig

__all__ = ["make_records", "merge_records"]


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


def merge_records(
    records: Sequence[Detections], options: PredictOptions, iou_threshold: float, max_detections: int
) -> Detections:
    """One record from several of the same image: the strongest boxes that do not suppress each other.

    Args:
        records: In pixels of the complete image.
        options: `tile` and `overlap` that they were made with, `class_agnostic`.
        iou_threshold: IoU above which the weaker of two boxes of a class is suppressed.
        max_detections: Most boxes.
    """
    if len(records) == 1:
        return records[0]
    joined = Detections.concatenate(records)
    groups = np.zeros_like(joined.labels) if options.class_agnostic else joined.labels
    windows = None if options.tile is None else tile_windows(joined.size, options.tile, options.overlap)
    keep = merge_boxes(joined.boxes, joined.scores, groups, iou_threshold, windows)
    return joined[keep[:max_detections]]
