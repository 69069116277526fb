"""Views: the affine map between an image and the canvas of a network, and its inverse.

Coordinates are continuous: (0, 0) is the top-left corner of the top-left pixel, whose center is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

__all__ = [
    "Fit",
    "Interpolation",
    "Size",
    "View",
    "average_blocks",
    "fit_view",
    "resize_antialiased",
    "resize_image",
    "resize_linear",
    "to_opencv_matrix",
    "warp_image",
]

Size = tuple[int, int]
"""(height, width)."""
Fit = Literal["letterbox", "letterbox_top_left", "stretch", "shortest", "closest", "pad", "center"]
Interpolation = Literal["auto", "linear", "antialiased", "bicubic"]


@dataclass(frozen=True)
class View:
    """The map of an image into the canvas of a network: scaling, then translation.

    Attributes:
        original: Size of the image, (height, width).
        size: Size of the network's canvas, (height, width).
        scale: Canvas pixels per image pixel, (x, y).
        offset: Position of the image's corner on the canvas, (x, y) in canvas pixels.
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
    def is_identity(self) -> bool:
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
        """Resizes an image (H, W, C) of any type into the canvas.

        Args:
            image: The image.
            fill: Value of the padding, or "edge" to replicate the edge of the image.
            interpolation: "auto" averages over areas when downscaling and is linear when upscaling; "linear" is never
                antialiased, and for floats exactly that of PyTorch; "antialiased" is linear, and "bicubic" cubic, with
                the antialiasing of torchvision and Pillow.

        Returns:
            (h, w, C) of the canvas size and the image's type.
        """
        if self.is_identity:
            return image
        height, width = self.content
        if (height, width) != image.shape[:2]:
            if interpolation in ("antialiased", "bicubic"):
                image = resize_antialiased(image, (height, width), is_cubic=interpolation == "bicubic")
            elif interpolation == "linear" and image.dtype.kind == "f":
                image = resize_linear(image, (height, width))
            else:
                is_shrunk = interpolation == "auto" and height < image.shape[0]
                image = resize_image(image, (height, width), cv2.INTER_AREA if is_shrunk else cv2.INTER_LINEAR)
        x, y = round(self.offset[0]), round(self.offset[1])
        if isinstance(fill, str):
            return np.pad(image, ((y, self.size[0] - height - y), (x, self.size[1] - width - x), (0, 0)), "edge")
        canvas = np.empty((*self.size, image.shape[2]), image.dtype)
        canvas[:] = fill
        canvas[y : y + height, x : x + width] = image
        return canvas


def fit_view(
    original: Size,
    mode: Fit,
    size: int | Size | None = None,
    max_size: int | None = None,
    multiple_of: int = 1,
    min_side: int = 1,
    full_size: bool = True,
) -> View:
    """Computes the view of an image under a size rule.

    Args:
        original: Size of the image, (height, width).
        mode: The rule.
            `letterbox`: scale the image to fit into `size`, centered on the canvas.
            `letterbox_top_left`: the same at the top left, truncated to whole pixels, as in YOLOX.
            `stretch`: scale both sides to `size`, whatever the aspect ratio.
            `shortest`: scale the shorter side to `size`, the longer one to at most `max_size`, truncated to whole
            pixels, as in torchvision.
            `closest`: scale by whichever of the factors that bring a side to `size` is closer to 1, then round each
            side to the nearest multiple, as in DPTImageProcessor of transformers.
            `pad`, `center`: keep the scale.
            The rest of the canvas is padded: on all sides for `letterbox` and `center`, else at the right and bottom.
        size: Side or (height, width) of the canvas.
        max_size: Maximum of the longer side with `shortest`.
        multiple_of: Each side of the canvas is rounded up to this; with `closest` to the nearest.
        min_side: Minimum side of the canvas.
        full_size: For the letterbox modes, use a canvas of `size` instead of the smallest one that holds the image.

    Raises:
        ValueError: The mode needs a size.
    """
    content = _compute_content_size(original, mode, size, max_size, multiple_of)
    is_letterbox = mode in ("letterbox", "letterbox_top_left")
    min_size = _to_size(size) if is_letterbox and full_size and size is not None else content
    height, width = (max(min_side, math.ceil(max(pair) / multiple_of) * multiple_of) for pair in zip(min_size, content))
    is_centered = mode in ("letterbox", "center")
    offset = ((width - content[1]) // 2, (height - content[0]) // 2) if is_centered else (0, 0)
    scale = (content[1] / original[1], content[0] / original[0])
    return View(original, (height, width), scale, (float(offset[0]), float(offset[1])))


def _compute_content_size(
    original: Size, mode: Fit, size: int | Size | None, max_size: int | None, multiple_of: int
) -> Size:
    """Size of the scaled image on the canvas, (height, width)."""
    if mode in ("pad", "center"):
        return original
    if size is None:
        raise ValueError(f"the mode '{mode}' needs a size")
    target, (height, width) = _to_size(size), original
    if mode == "stretch":
        return target
    if mode == "closest":
        ratio = min((side / original_side for side, original_side in zip(target, original)), key=lambda r: abs(1 - r))
        height, width = (max(1, round(side * ratio / multiple_of)) * multiple_of for side in original)
        return height, width
    if mode in ("letterbox", "letterbox_top_left"):
        ratio = min(target[0] / height, target[1] / width)
    else:
        ratio = min(target[0] / min(height, width), (max_size or math.inf) / max(height, width))
    to_pixels = math.floor if mode in ("shortest", "letterbox_top_left") else round
    return max(1, to_pixels(height * ratio)), max(1, to_pixels(width * ratio))


def _to_size(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size


def warp_image(
    image: np.ndarray, matrix: np.ndarray, size: Size, interpolation: int, fill: float | tuple[float, ...]
) -> np.ndarray:
    """Warps an (H, W) or (H, W, C) array by an affine map given in corner coordinates.

    Args:
        image: The array.
        matrix: (2, 3) map from image to canvas.
        size: (height, width) of the canvas.
        interpolation: An OpenCV constant.
        fill: Value outside the image.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    border = fill if isinstance(fill, tuple) else (fill,) * min(channels, 4)
    warped = cv2.warpAffine(image, to_opencv_matrix(matrix), size[::-1], flags=interpolation, borderValue=border)
    return warped if warped.ndim == image.ndim else warped[..., None]


def average_blocks(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages blocks of pixels as far as a map shrinks the image by whole factors; interpolation alone would alias.

    Args:
        image: (H, W, C).
        matrix: (2, 3) affine map of the image, in corner coordinates.

    Returns:
        The image and the map that are to be used instead; the same ones if the map does not shrink to half or less.
        Rows and columns at the right and the bottom that do not fill a block are left out.
    """
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    height, width = image.shape[:2]
    factor = min(int(1 / max(scale, 1e-6) + 1e-6), height, width)
    if factor < 2:
        return image, matrix
    size = max(1, height // factor), max(1, width // factor)
    image = image[: size[0] * factor, : size[1] * factor]
    return resize_image(image, size, cv2.INTER_AREA), matrix @ np.diag([factor, factor, 1.0])


def to_opencv_matrix(matrix: np.ndarray) -> np.ndarray:
    """Converts an affine map (2, 3) from corner coordinates to those of OpenCV, whose origin is the center of a pixel.

    >>> to_opencv_matrix(np.array([[2.0, 0, 0], [0, 1, 0]]))
    array([[2. , 0. , 0.5],
           [0. , 1. , 0. ]])
    """
    half = np.array([0.5, 0.5])
    centered = np.asarray(matrix, np.float64).copy()
    centered[:, 2] += centered[:, :2] @ half - half
    return centered


def resize_image(image: np.ndarray, size: Size, interpolation: int) -> np.ndarray:
    """Resizes an (H, W, C) array of any number of channels; OpenCV supports area interpolation for at most four.

    Args:
        image: The array.
        size: (height, width).
        interpolation: An OpenCV constant.
    """
    groups = [image[..., start : start + 4] for start in range(0, image.shape[2], 4)]
    resized = [cv2.resize(group, size[::-1], interpolation=interpolation).reshape(*size, -1) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, 2)


def resize_linear(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes an (H, W, C) array of float32 linearly without antialiasing, exactly as PyTorch does.

    PyTorch computes positions in single precision, which changes values by up to a hundredth of a gray level.
    """
    import torch
    from torch.nn.functional import interpolate

    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return interpolate(planes, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def resize_antialiased(image: np.ndarray, size: Size, is_cubic: bool) -> np.ndarray:
    """Resizes an (H, W, C) array by antialiased interpolation, as torchvision resizes tensors.

    Args:
        image: uint8; other types are interpolated as float32 and clipped to the range of the input's type.
        size: (height, width).
        is_cubic: Bicubic instead of bilinear.
    """
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    planes = planes if image.dtype == np.uint8 else planes.float()
    mode = InterpolationMode.BICUBIC if is_cubic else InterpolationMode.BILINEAR
    resized = resize(planes, list(size), mode, antialias=True).permute(1, 2, 0).numpy()
    if image.dtype.kind == "f":
        return resized.clip(0, 1)  # bicubic interpolation overshoots
    if image.dtype != np.uint8:
        return np.rint(resized.clip(0, np.iinfo(image.dtype).max)).astype(image.dtype)
    return resized
