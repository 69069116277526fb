"""Merges the boxes of several views of one image: tiles, mirrored and scaled copies."""

from __future__ import annotations

import math

import numpy as np
import torch
from torchvision.ops import batched_nms

__all__ = ["find_cut_boxes", "merge_boxes", "tile_starts", "tile_windows"]

SEAM_MARGIN = 0.01
"""A box that ends within this part of a tile's side from the border of the tile may have been cut there."""
MIN_SEAM_MARGIN = 2.0
"""The same in pixels, for small tiles."""


def merge_boxes(
    boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float, windows: np.ndarray | None = None
) -> np.ndarray:
    """Positions of the boxes that remain, strongest first.

    A tile shows only a part of an object that its border cuts, and the box of that part overlaps the box of the
    complete object too little to be suppressed by it. Boxes that were cut are therefore also suppressed if they lie
    inside a stronger box of their group. All other nested boxes are kept.

    Args:
        boxes: (N, 4) xyxy in pixels of the image.
        scores: (N,).
        groups: (N,) integers; boxes of different groups do not suppress each other.
        iou_threshold: Intersection over union above which the weaker box is suppressed; for boxes that were cut, also
            the part of the box that lies in the stronger one.
        windows: (T, 4) xyxy of the tiles; None if the image was not tiled.
    """
    keep = batched_nms(*(torch.from_numpy(rows) for rows in (boxes, scores, groups)), iou_threshold).numpy()
    if windows is None or len(windows) < 2:
        return keep
    boxes, groups = boxes[keep], groups[keep]
    is_part = np.zeros(len(boxes), bool)
    # One box at a time: a large image has so many boxes that all pairs of them would not fit into memory.
    for row in np.flatnonzero(find_cut_boxes(boxes, windows)):
        top_left = np.maximum(boxes[:row, :2], boxes[row, :2])
        bottom_right = np.minimum(boxes[:row, 2:], boxes[row, 2:])
        intersection = (bottom_right - top_left).clip(0).prod(1)
        area = (boxes[row, 2:] - boxes[row, :2]).prod()
        is_part[row] = ((intersection > iou_threshold * area) & (groups[:row] == groups[row])).any()
    return keep[~is_part]


def find_cut_boxes(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Whether a tile's border may have cut the objects of boxes (N, 4): (N,) bool.

    A box was cut if it lies within a tile and ends at a border of it that is no border of the image.

    Args:
        boxes: xyxy in pixels of the image.
        windows: (T, 4) xyxy of the tiles, which cover the image.
    """
    image = np.concatenate([windows[:, :2].min(0), windows[:, 2:].max(0)])
    is_cut = np.zeros(len(boxes), bool)
    for window in windows:
        margin = np.maximum(SEAM_MARGIN * np.tile(window[2:] - window[:2], 2), MIN_SEAM_MARGIN)
        depth = (boxes - window) * (1, 1, -1, -1)  # distance of each side from the tile's border, inwards
        at_border = (depth <= margin) & (window != image)
        is_cut |= (depth >= -margin).all(1) & at_border.any(1)
    return is_cut


def tile_windows(size: tuple[int, int], tile: int, overlap: float) -> np.ndarray:
    """The tiles of an image of (height, width), row by row: (T, 4) int64 xyxy."""
    ys, xs = (tile_starts(side, tile, overlap) for side in size)
    height, width = size
    return np.array([(x, y, min(x + tile, width), min(y + tile, height)) for y in ys for x in xs])


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where the tiles along one side start: evenly spaced, the last one flush with the end.

    Args:
        length: Pixels of the side.
        tile: Pixels of a tile.
        overlap: Part of a tile that it shares with its neighbor at least.

    >>> tile_starts(1000, 400, 0.25)
    [0, 300, 600]
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / max(1, tile * (1 - overlap))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]
