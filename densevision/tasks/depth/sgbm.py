"""Disparity without learning and without truth: OpenCV's semi-global matching, where both directions agree."""

from __future__ import annotations

import cv2
import numpy as np

from densevision.io.image import to_channels
from densevision.results.depth_map import Camera, DepthMap

STEPS = 16
"""Parts of a pixel in which OpenCV counts disparity, and the multiple that its range must be of."""
BLOCK = 5
AGREE = 1.0
"""Pixels by which the disparities of both eyes may differ."""


def match(left: np.ndarray, right: np.ndarray, largest: float, camera: Camera | None = None) -> DepthMap:
    """Disparity of the left picture of a rectified pair.

    Source: Hirschmüller, Stereo Processing by Semiglobal Matching and Mutual Information, TPAMI 2008, section 2.4 for
    the check of both directions; the costs are those of OpenCV's samples.

    Args:
        left: (H, W, C); of more than 8 bits OpenCV sees 8, stretched over what both pictures hold.
        right: The same.
        largest: Largest disparity that is looked for, in pixels.
        camera: What is known of the left camera.

    Returns:
        Disparity in pixels; valid where it is positive and the right picture's disparity leads back.
    """
    grey = _in_8_bits(*(to_channels(picture, 1)[..., 0] for picture in (left, right)))
    width = grey[0].shape[1]
    count = STEPS * max(1, int(np.ceil(min(largest, width - 1) / STEPS)))
    own = _disparity(grey[0], grey[1], count)
    # The right picture's disparity is the left one's in a mirror, where the right picture is the left one.
    other = _disparity(grey[1][:, ::-1], grey[0][:, ::-1], count)[:, ::-1]
    there = np.rint(np.arange(width) - own).astype(int)
    back = np.take_along_axis(other, there.clip(0, width - 1), 1)
    agreed = (own > 0) & (there >= 0) & (back > 0) & (np.abs(own - back) <= AGREE)
    return DepthMap.of(own, agreed, kind="disparity", unit="px", camera=camera)


def _in_8_bits(*pictures: np.ndarray) -> list[np.ndarray]:
    if all(picture.dtype == np.uint8 for picture in pictures):
        return list(pictures)
    low = min(float(picture.min()) for picture in pictures)
    step = max(float(picture.max()) - low for picture in pictures) / 255 or 1.0
    return [np.rint((picture - np.float32(low)) / np.float32(step)).astype(np.uint8) for picture in pictures]


def _disparity(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """(H, W) float32 pixels; negative where nothing fits.

    OpenCV answers only where the whole range lies in the picture; so both are continued at their left by the range.
    """
    wide = [cv2.copyMakeBorder(picture, 0, 0, count + BLOCK, 0, cv2.BORDER_REPLICATE) for picture in (left, right)]
    matcher = cv2.StereoSGBM_create(
        minDisparity=0,
        numDisparities=count,
        blockSize=BLOCK,
        P1=8 * BLOCK**2,
        P2=32 * BLOCK**2,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    return matcher.compute(*wide)[:, count + BLOCK :].astype(np.float32) / STEPS
