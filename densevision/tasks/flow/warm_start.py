"""Initial flow of a pair from the flow of the previous one.

Source: Teed and Deng, RAFT, ECCV 2020, section 4.2: the previous flow is projected forward along itself.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["project_forward"]


def project_forward(flow: np.ndarray, stride: int) -> np.ndarray:
    """Moves each cell's motion to the cell that it leads to.

    Cells that no motion leads to get that of the nearest cell that has one.

    Args:
        flow: (2, H, W) of the previous pair on the network's canvas, whose sides are multiples of the stride.
        stride: Pixels per cell.

    Returns:
        (2, H / stride, W / stride) float32, in cells.
    """
    cells = flow.reshape(2, flow.shape[1] // stride, stride, flow.shape[2] // stride, stride).mean((2, 4)) / stride
    height, width = cells.shape[1:]
    x, y = (np.rint(cells[axis] + np.indices((height, width))[1 - axis]).astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if not inside.any():
        return np.zeros_like(cells, np.float32)
    # Where several motions lead to one cell the fastest is used: it is most likely in front.
    order = np.argsort(np.hypot(*cells)[inside], kind="stable")
    projected, empty = np.zeros_like(cells, np.float32), np.ones((height, width), np.uint8)
    projected[:, y[inside][order], x[inside][order]] = cells[:, inside][:, order]
    empty[y[inside], x[inside]] = 0
    labels = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)[1]
    sources = np.zeros((labels.max() + 1, 2), int)
    rows, columns = np.nonzero(empty == 0)
    sources[labels[rows, columns]] = np.stack([rows, columns], 1)
    nearest = sources[labels]
    return projected[:, nearest[..., 0], nearest[..., 1]]
