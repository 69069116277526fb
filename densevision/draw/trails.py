"""Trails of tracked objects: where each was in the last frames."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from densevision.draw.canvas import compute_line_width, copy_canvas
from densevision.draw.colors import get_track_color

__all__ = ["Trails"]


class Trails:
    """Draws a line through the recent centers of each identity, frame by frame.

    Args:
        length: Frames that a trail covers, and after which an identity that is not seen is forgotten.
    """

    def __init__(self, length: int = 30):
        self.length = length
        self._frame = 0
        self._centers: dict[int, deque[tuple[int, float, float]]] = {}

    def draw(self, image: np.ndarray, boxes: np.ndarray, track_ids: np.ndarray) -> np.ndarray:
        """Adds a frame and draws the trails of the objects in it.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) xyxy in pixels.
            track_ids: (N,) identities; -1 has no trail.

        Returns:
            A new image of the same size and type.

        Raises:
            DataError: The image is not (H, W, 3) uint8.
        """
        canvas = copy_canvas(image)
        width = compute_line_width(canvas.shape[:2], len(boxes))
        for box, track_id in zip(boxes.tolist(), track_ids.tolist()):
            if track_id >= 0:
                trail = self._centers.setdefault(track_id, deque())
                trail.append((self._frame, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
                points = np.rint([center[1:] for center in trail if center[0] > self._frame - self.length])
                color = get_track_color(track_id)
                cv2.polylines(canvas, [points.astype(np.int32)], False, color, width, cv2.LINE_AA)
        self._frame += 1
        self._forget()
        return canvas

    def _forget(self) -> None:
        """Drops the centers and identities of too long ago, so that memory does not grow with the video."""
        oldest = self._frame - self.length
        for track_id, trail in list(self._centers.items()):
            while trail and trail[0][0] < oldest:
                trail.popleft()
            if not trail:
                del self._centers[track_id]
