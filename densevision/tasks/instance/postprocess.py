"""Predictions to records: boxes mapped back to the image, masks pasted into them, keypoints read from heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from densevision.ops.masks import compute_areas, encode
from densevision.ops.paste import paste_mask, paste_mask_torchvision
from densevision.ops.skeleton import Skeleton
from densevision.ops.view import View
from densevision.results import Instances
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.keypoints import find_peaks

__all__ = ["make_records", "make_skeleton"]

MASK_THRESHOLD = 0.5
"""Probability above which a pixel is inside an object."""


def make_records(predictions: dict[str, Tensor], views: Sequence[View], config: InstanceConfig) -> list[Instances]:
    """Records in pixels of the original images; boxes that lie outside are left out.

    Args:
        predictions: Of the model, on the CPU.
        views: How the model saw each image.
        config: Class names, keypoints, and how masks are pasted.
    """
    rows = (dict(zip(predictions, row)) for row in zip(*(values.numpy() for values in predictions.values())))
    return [_make_record(row, view, config) for row, view in zip(rows, views)]


def make_skeleton(config: InstanceConfig) -> Skeleton | None:
    """The keypoints of this config; None if it has none."""
    return Skeleton(config.keypoint_names or (), config.skeleton_edges or ()) if config.has_keypoints else None


def _make_record(prediction: dict[str, np.ndarray], view: View, config: InstanceConfig) -> Instances:
    boxes = view.boxes_to_original(prediction["boxes"]).astype(np.float32)
    keep = np.flatnonzero(prediction["valid"] & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    boxes = boxes[keep]
    fields: dict[str, Any] = {}
    if config.has_masks:
        if "canvas_masks" in prediction:
            masks = tuple(_resize_mask(prediction["canvas_masks"][row], view) for row in keep)
        else:
            paste = paste_mask_torchvision if config.decode.snap_boxes else paste_mask
            masks = tuple(paste(mask, box, view.original) for mask, box in zip(prediction["masks"][keep], boxes))
        fields |= {"masks": masks, "areas": compute_areas(masks)}
    if config.has_keypoints:
        points, scores = find_peaks(prediction["heatmaps"][keep], prediction["boxes"][keep])
        points = np.dstack([view.points_to_original(points), np.full(scores.shape, 2)]).astype(np.float32)
        fields |= {"keypoints": points, "keypoint_scores": scores, "skeleton": make_skeleton(config)}
    return Instances.from_arrays(
        boxes,
        prediction["labels"][keep],
        config.classes or (),
        view.original,
        scores=prediction["scores"][keep],
        category_ids=config.category_ids,
        **fields,
    )


def _resize_mask(probabilities: np.ndarray, view: View) -> dict[str, Any]:
    """The run-length encoding on the original image of a mask (H, W) on the canvas."""
    (height, width), (x, y) = view.content, (round(offset) for offset in view.offset)
    content = probabilities[y : y + height, x : x + width]
    resized = cv2.resize(content, view.original[::-1], interpolation=cv2.INTER_LINEAR)
    return encode(resized > MASK_THRESHOLD)
