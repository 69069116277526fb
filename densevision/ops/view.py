"""Original image <-> network image: one affine map, and its inverse.

Coordinates are continuous: (0, 0) is the top-left corner of the top-left pixel, whose center is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Size = tuple[int, int]
Fit = Literal["letterbox", "shortest", "cover", "pad", "center"]
Interpolation = Literal["auto", "linear", "cubic"]

_CURVES = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True)
class View:
    """How a network sees an image: scaled, then shifted, into a canvas.

    Attributes:
        original: Size of the image, (height, width).
        size: Size of the network's canvas, (height, width).
        scale: Canvas pixels per image pixel, (x, y).
        offset: Where the image's corner lies on the canvas, (x, y) in canvas pixels.
    """

    original: Size
    size: Size
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def matrix(self) -> np.ndarray:
        """The affine map image -> canvas, (2, 3) float64."""
        return np.array([[self.scale[0], 0.0, self.offset[0]], [0.0, self.scale[1], self.offset[1]]])

    @property
    def content(self) -> Size:
        """Size of the part of the canvas that the image covers, (height, width)."""
        height, width = self.original
        return round(height * self.scale[1]), round(width * self.scale[0])

    @property
    def identity(self) -> bool:
        """Whether the canvas is the image."""
        return self.original == self.size and self.scale == (1.0, 1.0) and self.offset == (0.0, 0.0)

    def points_to_network(self, points: np.ndarray) -> np.ndarray:
        """Maps (..., 2) xy points of the image to the canvas."""
        return points * np.asarray(self.scale) + np.asarray(self.offset)

    def points_to_original(self, points: np.ndarray) -> np.ndarray:
        """Maps (..., 2) xy points of the canvas back to the image; inverse of `points_to_network`."""
        return (points - np.asarray(self.offset)) / np.asarray(self.scale)

    def boxes_to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Maps (N, 4) xyxy boxes of the canvas back to the image, clipped to it.

        >>> View((10, 20), (32, 32), (2.0, 2.0), (0.0, 4.0)).boxes_to_original(np.array([[0.0, 4, 8, 99]]))
        array([[ 0.,  0.,  4., 10.]])
        """
        corners = self.points_to_original(np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2))
        height, width = self.original
        return corners.clip(0, (width, height)).reshape(-1, 4)

    def image_to_network(
        self,
        image: np.ndarray,
        fill: float | tuple[float, ...] | Literal["edge"] = 0,
        interpolation: Interpolation = "auto",
    ) -> np.ndarray:
        """Resizes an image (H, W, C) of any type into the canvas and fills the rest, or continues its edge there.

        By itself, shrinking averages over areas and growing interpolates linearly; memory is that of the canvas. Floats
        are interpolated linearly as PyTorch does it, which places its points less exactly than OpenCV.
        """
        if self.identity:
            return image
        height, width = self.content
        if (height, width) != image.shape[:2]:
            usual = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
            if interpolation == "linear" and image.dtype.kind == "f":
                image = interpolated(image, (height, width))
            else:
                image = resize_image(image, (height, width), _CURVES.get(interpolation, usual))
            if interpolation == "cubic" and image.dtype.kind == "f":
                image = image.clip(0, 1)  # cubic curves overshoot, and an image of floats ends at white
        x, y = round(self.offset[0]), round(self.offset[1])
        if isinstance(fill, str):
            return np.pad(image, ((y, self.size[0] - height - y), (x, self.size[1] - width - x), (0, 0)), "edge")
        canvas = np.empty((*self.size, image.shape[2]), image.dtype)
        canvas[:] = fill
        canvas[y : y + height, x : x + width] = image
        return canvas


def fit(
    original: Size,
    how: Fit,
    size: int | Size | None = None,
    longest: int | None = None,
    multiple_of: int = 1,
    minimum: int = 1,
    whole: bool = True,
) -> View:
    """The view of an image under a size rule.

    Args:
        original: Size of the image, (height, width).
        how: `letterbox` scales it to fit into `size`, centered; `shortest` scales its shorter side to `size`, its longer
            side to at most `longest`, and drops fractions of pixels as torchvision does; `cover` scales both to the
            multiples nearest to the shorter side being `size`, and never below it; `pad` leaves the scale, and so does
            `center`. All then pad, but for `cover`: `letterbox` and `center` on all sides, the others at the right and
            the bottom.
        size: Side or (height, width) of the canvas.
        longest: Limit of the longer side under `shortest`.
        multiple_of: Each side of the canvas is rounded up to this; under `cover` to the nearest.
        minimum: Least side of the canvas.
        whole: `letterbox`: fill the whole of `size` instead of the least canvas that holds the image.
    """
    height, width = original
    if how in ("pad", "center"):
        content, scale = (height, width), (1.0, 1.0)
    else:
        if size is None:
            raise ValueError(f"fit '{how}' needs a size")
        target = (size, size) if isinstance(size, int) else size
        if how == "letterbox":
            ratio = min(target[0] / height, target[1] / width)
        else:
            ratio = min(target[0] / min(height, width), (longest or math.inf) / max(height, width))
        whole_pixels = math.floor if how == "shortest" else round
        content = max(1, whole_pixels(height * ratio)), max(1, whole_pixels(width * ratio))
        if how == "cover":
            sides = (round(side * ratio / multiple_of) * multiple_of for side in (height, width))
            content = tuple(max(side, math.ceil(low / multiple_of) * multiple_of) for side, low in zip(sides, target))
        scale = (content[1] / width, content[0] / height)
    least = target if how == "letterbox" and whole else content
    canvas = tuple(max(minimum, math.ceil(max(a, b) / multiple_of) * multiple_of) for a, b in zip(least, content))
    centered = how in ("letterbox", "center")
    offset = ((canvas[1] - content[1]) // 2, (canvas[0] - content[0]) // 2) if centered else (0, 0)
    return View((height, width), (canvas[0], canvas[1]), scale, (float(offset[0]), float(offset[1])))


def warp_image(
    image: np.ndarray, matrix: np.ndarray, size: Size, interpolation: int, fill: float | tuple
) -> np.ndarray:
    """Warps an (H, W) or (H, W, C) array by an affine map given in corner coordinates.

    Args:
        image: The array.
        matrix: (2, 3) map from image to canvas.
        size: Canvas (height, width).
        interpolation: An OpenCV constant.
        fill: Value outside the image.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    border = fill if isinstance(fill, tuple) else (fill,) * min(channels, 4)
    warped = cv2.warpAffine(image, pixel_map(matrix), size[::-1], flags=interpolation, borderValue=border)
    return warped if warped.ndim == image.ndim else warped[..., None]


def pixel_map(matrix: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) between indices of pixels, as OpenCV counts them, of one in corner coordinates.

    >>> pixel_map(np.array([[2.0, 0, 0], [0, 1, 0]]))
    array([[2. , 0. , 0.5],
           [0. , 1. , 0. ]])
    """
    half = np.array([0.5, 0.5])
    centered = np.asarray(matrix, np.float64).copy()
    centered[:, 2] += centered[:, :2] @ half - half
    return centered


def resize_image(image: np.ndarray, size: Size, interpolation: int) -> np.ndarray:
    """Resizes an (H, W, C) array of any number of channels; OpenCV averages over areas for four at most.

    Args:
        image: The array.
        size: (height, width).
        interpolation: An OpenCV constant.
    """
    groups = [image[..., start : start + 4] for start in range(0, image.shape[2], 4)]
    resized = [cv2.resize(group, size[::-1], interpolation=interpolation).reshape(*size, -1) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, 2)


def interpolated(image: np.ndarray, size: Size) -> np.ndarray:
    """Interpolates an (H, W, C) array of float32 linearly as PyTorch does, to the last bit, without averaging.

    PyTorch computes places in single precision, a hundredth of a gray level off: networks notice.
    """
    import torch
    from torch.nn.functional import interpolate

    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return interpolate(planes, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
