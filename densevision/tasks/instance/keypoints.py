"""Heatmaps over boxes: reading where their peaks are, and drawing them.

Source: He et al., Mask R-CNN, ICCV 2017, section 5; enlarged and read as torchvision does.
"""

from __future__ import annotations

import cv2
import numpy as np

CERTAIN = 20.0
"""Logit of a peak that leaves no doubt."""


def peaks(heatmaps: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each heatmap is highest, once it is resized to its box by cubic curves.

    Args:
        heatmaps: (N, K, R, R) logits.
        boxes: (N, 4) xyxy.

    Returns:
        (N, K, 2) float64 xy in the boxes' coordinates, and (N, K) float32 heights of the peaks.
    """
    count, keypoint_names = heatmaps.shape[:2]
    points, scores = np.zeros((count, keypoint_names, 2)), np.zeros((count, keypoint_names), np.float32)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    for row, (maps, side) in enumerate(zip(heatmaps, sides)):
        size = tuple(np.ceil(side).astype(int).tolist())
        for joint, heatmap in enumerate(maps):
            large = cv2.resize(np.asarray(heatmap, np.float32), size, interpolation=cv2.INTER_CUBIC)
            y, x = np.unravel_index(large.argmax(), large.shape)
            points[row, joint] = (np.array([x, y]) + 0.5) * side / size + boxes[row, :2]
            scores[row, joint] = large[y, x]
    return points, scores


def heatmaps_of(points: np.ndarray, boxes: np.ndarray, resolution: int) -> np.ndarray:
    """Heatmaps from which `peaks` reads these points again, as far as they lie in their boxes.

    Args:
        points: (N, K, 2) xy.
        boxes: (N, 4) xyxy.
        resolution: Cells a side.
    """
    side = np.maximum(boxes[:, None, 2:] - boxes[:, None, :2], 1)
    cells = (points - boxes[:, None, :2]) / side * resolution
    grid = np.arange(resolution) + 0.5
    x, y = ((grid - cells[..., axis, None]) ** 2 for axis in (0, 1))
    return (CERTAIN - (x[..., None, :] + y[..., :, None]) / resolution).astype(np.float32)
