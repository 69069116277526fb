"""Pseudo ground truth of stereo pairs: OpenCV's semi-global matching, where both directions agree."""

from __future__ import annotations

import cv2
import numpy as np

from densevision.io.image import convert_channels
from densevision.results.depth_map import Camera, DepthMap

__all__ = ["match_stereo"]

SUBPIXELS = 16
"""Fractions of a pixel in OpenCV's disparities, and the multiple that the search range must be of."""
BLOCK_SIZE = 5
MAX_DISAGREEMENT = 1.0
"""Pixels by which the disparities of both images may differ."""


def match_stereo(left: np.ndarray, right: np.ndarray, max_disparity: float, camera: Camera | None = None) -> DepthMap:
    """Computes the disparity of the left image of a rectified pair.

    Source: Hirschmüller, Stereo Processing by Semiglobal Matching and Mutual Information, TPAMI 2008, section 2.4 for
    the consistency check; the costs are those of OpenCV's samples.

    Args:
        left: (H, W, C); more than 8 bits are reduced to 8, stretched over the range of both images.
        right: Same shape.
        max_disparity: End of the search range in pixels.
        camera: Calibration of the left camera.

    Returns:
        Disparity in pixels; valid where it is positive and agrees with that of the right image.
    """
    gray = _to_8bit(*(convert_channels(image, 1)[..., 0] for image in (left, right)))
    width = gray[0].shape[1]
    count = SUBPIXELS * max(1, int(np.ceil(min(max_disparity, width - 1) / SUBPIXELS)))
    disparity = _match_left(gray[0], gray[1], count)
    # The right image's disparity is the left one's of the flipped and exchanged pair.
    other = _match_left(gray[1][:, ::-1], gray[0][:, ::-1], count)[:, ::-1]
    target = np.rint(np.arange(width) - disparity).astype(int)
    back = np.take_along_axis(other, target.clip(0, width - 1), 1)
    valid = (disparity > 0) & (target >= 0) & (back > 0) & (np.abs(disparity - back) <= MAX_DISAGREEMENT)
    return DepthMap.from_arrays(disparity, valid, kind="disparity", unit="px", camera=camera)


def _to_8bit(*images: np.ndarray) -> list[np.ndarray]:
    if all(image.dtype == np.uint8 for image in images):
        return list(images)
    low = min(float(image.min()) for image in images)
    step = max(float(image.max()) - low for image in images) / 255 or 1.0
    return [np.rint((image - np.float32(low)) / np.float32(step)).astype(np.uint8) for image in images]


def _match_left(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """(H, W) float32 pixels; negative where nothing matches.

    OpenCV needs the whole search range inside the image, so both images are padded on the left by the range.
    """
    padded = [cv2.copyMakeBorder(image, 0, 0, count + BLOCK_SIZE, 0, cv2.BORDER_REPLICATE) for image in (left, right)]
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=count,
        blockSize=BLOCK_SIZE,
        P1=8 * BLOCK_SIZE**2,
        P2=32 * BLOCK_SIZE**2,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    return matcher.compute(*padded)[:, count + BLOCK_SIZE :].astype(np.float32) / SUBPIXELS
