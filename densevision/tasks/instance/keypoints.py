"""Heatmaps over boxes: reading the positions of their peaks, and drawing them.

Source: He et al., Mask R-CNN, ICCV 2017, section 5; upsampled and read as in torchvision.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["find_peaks", "make_heatmaps"]

PEAK_LOGIT = 20.0
"""Logit of a certain peak."""


def find_peaks(heatmaps: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each heatmap after cubic interpolation to the size of its box.

    Args:
        heatmaps: (N, K, R, R) logits.
        boxes: (N, 4) xyxy.

    Returns:
        (N, K, 2) float64 xy in the boxes' coordinates, and (N, K) float32 logits at the maxima.
    """
    count, num_keypoints = heatmaps.shape[:2]
    points, scores = np.zeros((count, num_keypoints, 2)), np.zeros((count, num_keypoints), np.float32)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    for row, (maps, side) in enumerate(zip(heatmaps, sides)):
        size = tuple(np.ceil(side).astype(int).tolist())
        for keypoint, heatmap in enumerate(maps):
            resized = cv2.resize(np.asarray(heatmap, np.float32), size, interpolation=cv2.INTER_CUBIC)
            y, x = np.unravel_index(resized.argmax(), resized.shape)
            points[row, keypoint] = (np.array([x, y]) + 0.5) * side / size + boxes[row, :2]
            scores[row, keypoint] = resized[y, x]
    return points, scores


def make_heatmaps(points: np.ndarray, boxes: np.ndarray, resolution: int) -> np.ndarray:
    """Heatmaps (N, K, resolution, resolution) from which `find_peaks` reads these points, if they lie in their boxes.

    Args:
        points: (N, K, 2) xy.
        boxes: (N, 4) xyxy.
        resolution: Cells per side.
    """
    side = np.maximum(boxes[:, None, 2:] - boxes[:, None, :2], 1)
    cells = (points - boxes[:, None, :2]) / side * resolution
    grid = np.arange(resolution) + 0.5
    x, y = ((grid - cells[..., axis, None]) ** 2 for axis in (0, 1))
    return (PEAK_LOGIT - (x[..., None, :] + y[..., :, None]) / resolution).astype(np.float32)
