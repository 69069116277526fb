"""TIDE's kinds of errors, the IoUs that tell them apart, and how IoU is computed for them.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020, section 2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from densevision.results import Detections, Instances

__all__ = ["BACKGROUND_IOU", "FOREGROUND_IOU", "KINDS", "compute_ious"]

KINDS = {
    "Cls": "classification: right place, wrong class",
    "Loc": "localization: right class, place half right",
    "Both": "both: wrong class, place half right",
    "Dupe": "duplicate: the object was found already",
    "Bkg": "background: nothing is there",
    "Miss": "missed: no prediction comes near",
}
"""TIDE's kinds of errors -> row titles."""
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
"""Minimum IoU of a correct localization, and IoU up to which a prediction is background."""


def compute_ious(prediction: Detections, truth: Detections, order: np.ndarray, iou_type: str) -> np.ndarray:
    """(N, M) IoU by COCO's rules: for crowd regions, intersection over the prediction's area."""
    from pycocotools import mask as mask_api

    if not len(order) or not len(truth):
        return np.zeros((len(order), len(truth)))
    sides: list[Any]
    if iou_type == "segm" and isinstance(prediction, Instances) and isinstance(truth, Instances):
        predicted_masks, true_masks = prediction.masks or (), truth.masks or ()
        sides = [[_to_bytes(predicted_masks[row]) for row in order], [_to_bytes(mask) for mask in true_masks]]
    else:
        sides = [_to_xywh(prediction.boxes[order]), _to_xywh(truth.boxes)]
    return np.asarray(mask_api.iou(*sides, truth.crowd.astype(np.uint8).tolist()))


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float64)


def _to_bytes(mask: dict[str, Any]) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
