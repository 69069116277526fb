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
    """Disparity of the left image of a rectified pair.

    Source: Hirschmüller, Stereo Processing by Semiglobal Matching and Mutual Information, TPAMI 2008, section 2.4 for
    the check of both directions; the costs are those of OpenCV's samples.

    Args:
        left: (H, W, C); of more than 8 bits OpenCV sees 8, stretched over what both images hold.
        right: The same.
        largest: Largest disparity that is looked for, in pixels.
        camera: What is known of the left camera.

    Returns:
        Disparity in pixels; valid where it is positive and the right image's disparity leads back.
    """
    gray = _in_8_bits(*(to_channels(image, 1)[..., 0] for image in (left, right)))
    width = gray[0].shape[1]
    count = STEPS * max(1, int(np.ceil(min(largest, width - 1) / STEPS)))
    own = _disparity(gray[0], gray[1], count)
    # The right image's disparity is the left one's in a mirror, where the right image is the left one.
    other = _disparity(gray[1][:, ::-1], gray[0][:, ::-1], count)[:, ::-1]
    there = np.rint(np.arange(width) - own).astype(int)
    back = np.take_along_axis(other, there.clip(0, width - 1), 1)
    agreed = (own > 0) & (there >= 0) & (back > 0) & (np.abs(own - back) <= AGREE)
    return DepthMap.of(own, agreed, kind="disparity", unit="px", camera=camera)


def _in_8_bits(*images: np.ndarray) -> list[np.ndarray]:
    if all(image.dtype == np.uint8 for image in images):
        return list(images)
    low = min(float(image.min()) for image in images)
    step = max(float(image.max()) - low for image in images) / 255 or 1.0
    return [np.rint((image - np.float32(low)) / np.float32(step)).astype(np.uint8) for image in images]


def _disparity(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """(H, W) float32 pixels; negative where nothing fits.

    OpenCV answers only where the whole range lies in the image; so both are continued at their left by the range.
    """
    wide = [cv2.copyMakeBorder(image, 0, 0, count + BLOCK, 0, cv2.BORDER_REPLICATE) for image in (left, right)]
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
