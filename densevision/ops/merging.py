"""One set of boxes from several about the same image: tiles, mirrored and scaled looks."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import batched_nms


def strongest_of_parts(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float, pieces: bool
) -> np.ndarray:
    """Positions of the boxes that do not suppress one another, strongest first.

    Where tiles cut an object, its pieces overlap the whole too little to be suppressed by it. A box that lies in a
    stronger one of its group, rather than beside it, is therefore taken for a piece on request, and left out as well.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        groups: (N,) integers; boxes of different groups leave each other alone.
        threshold: Intersection over union above which the weaker box goes; for pieces, the part of it that lies in
            the stronger one.
        pieces: Leave out pieces too.
    """
    keep = batched_nms(*(torch.from_numpy(rows) for rows in (boxes, scores, groups)), threshold).numpy()
    return keep[~_pieces(boxes[keep], groups[keep], threshold)] if pieces else keep


def _pieces(boxes: np.ndarray, groups: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: boxes, strongest first, of which more than the threshold lies in a stronger one of their group.

    One box at a time: a large image has so many that all pairs of them would not fit into memory.
    """
    own = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found = np.zeros(len(boxes), bool)
    for row in range(1, len(boxes)):
        low = np.maximum(boxes[:row, :2], boxes[row, :2])
        high = np.minimum(boxes[:row, 2:], boxes[row, 2:])
        common = (high - low).clip(0).prod(1)
        found[row] = ((common > threshold * own[row]) & (groups[:row] == groups[row])).any()
    return found
