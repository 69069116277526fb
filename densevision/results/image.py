"""An image as a result: larger, restored, or of another kind than the input image."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.io.atomic_write import atomic_write
from densevision.io.image import load_image, to_display, to_unit_float, write_image
from densevision.io.image_metadata import ImageMetadata
from densevision.io.png import write_png
from densevision.ops.view import average_blocks, warp_image
from densevision.results.base import DRAWING_SUFFIXES, Result

__all__ = ["Image"]

MIN_KNOWN_FRACTION = 1 - 1e-3
"""Fraction of known pixels from which a warped pixel counts as known."""
GAP = 4
"""Pixels between input and result in a drawing."""
STRIP_BYTES = 128 * 2**20
"""Size from which a PNG is written strip by strip."""
STRIP_ROWS = 256


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Image(Result):
    """An image predicted from an image, or its ground truth; `size` is its own size.

    Attributes:
        image: (H, W, C): uint8 from 0 to 255, uint16 from 0 to 65535, or float32 from 0 to 1, where NaN is an unknown
            pixel. Gray, RGB, either with alpha, or N channels.
        scale: Pixels per pixel of the input image, along each axis.
        metadata: Color profile and resolution, which PNG, JPEG and TIFF files keep.
    """

    image: np.ndarray
    scale: int = 1
    metadata: ImageMetadata = field(default=ImageMetadata())

    save_methods: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(DRAWING_SUFFIXES, "_save_image"),
        **{f".drawn{suffix}": "_save_drawing" for suffix in DRAWING_SUFFIXES},
        ".npy": "_save_npy",
    }
    row_axes: ClassVar[Mapping[str, int]] = {"image": 0}

    @classmethod
    def from_source(cls, image: Any, scale: int = 1, source: Any = None) -> Image:
        """Builds a record from anything that holds an image: an array, a path, a Pillow image, a tensor."""
        image = load_image(image)
        return cls(image=image, scale=scale, size=image.shape[:2], source=source)

    def unit(self) -> np.ndarray:
        """(H, W, C) float32 from 0 to 1, NaN where unknown."""
        return self.image if self.image.dtype.kind == "f" else to_unit_float(self.image)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Image:
        """The result for a warped input image: `matrix` maps the input image, and `scale` stays.

        Pixels are averaged where the map shrinks the image to half or less, as input images are. Pixels from beyond the
        edge are unknown. The result is float32.
        """
        matrix = np.asarray(matrix, np.float64) * [1, 1, self.scale]
        target = size[0] * self.scale, size[1] * self.scale
        pixels = self.unit()
        known = np.isfinite(pixels).all(2)
        pixels, reduced = average_blocks(np.where(known[..., None], pixels, np.float32(0)), matrix)
        warped = warp_image(pixels, reduced, target, cv2.INTER_LINEAR, 0)
        fraction, _ = average_blocks(known[..., None].astype(np.float32), matrix)
        is_known = warp_image(fraction, reduced, target, cv2.INTER_LINEAR, 0) >= MIN_KNOWN_FRACTION
        image = np.where(is_known, warped, np.float32(np.nan)).astype(np.float32)
        return replace(self, image=image, size=target, source=None)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """The result itself, which covers the input image: (H, W, 3) uint8 RGB."""
        return to_display(self.image)

    def draw_frame(self) -> np.ndarray:
        """The result itself: (H, W, 3) uint8 RGB."""
        return to_display(self.image)

    def draw(self, image: Any = None) -> np.ndarray:
        """Input and result side by side, or the result alone without an input; `save` writes it as `.drawn.png`.

        Args:
            image: The input image, anything that `predict` takes; by default the source. It is enlarged to the result's
                size without smoothing.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        after = to_display(self.image)
        source = self.source if image is None else image
        if source is None:
            return after
        before = to_display(load_image(source))
        if before.shape != after.shape:
            before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return np.concatenate([before, np.full((len(after), GAP, 3), 255, np.uint8), after], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `data` is a PNG in base64, or a NumPy file for floats and unusual channels."""
        height, width, channels = self.image.shape
        file_format, data = self.encode()
        return {
            "size": [height, width],
            "scale": self.scale,
            "type": self.image.dtype.name,
            "channels": channels,
            "format": file_format,
            "data": base64.b64encode(data).decode("ascii"),
        }

    def _summarize(self) -> str:
        channels = self.image.shape[2]
        scale = f", scale {self.scale}" if self.scale != 1 else ""
        return f"{channels} {'channel' if channels == 1 else 'channels'} of {self.image.dtype}{scale}"

    def encode(self) -> tuple[str, bytes]:
        """The format and the bytes of a file without loss: "png", or "npy" for floats and unusual channels."""
        if self.image.dtype.kind == "u" and self.image.shape[2] in (1, 3, 4):
            order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(self.image.shape[2], [0])
            return "png", cv2.imencode(".png", np.ascontiguousarray(self.image[..., order]))[1].tobytes()
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(self.image))
        return "npy", stream.getvalue()

    def _save_image(self, path: Path) -> None:
        """Writes the image itself; floats as 16 bits where the format supports it."""
        suffix = path.suffix.lower()
        if suffix == ".png" and self.image.nbytes > STRIP_BYTES:
            starts = range(0, len(self.image), STRIP_ROWS)
            strips = (_convert_for_file(self.image[start : start + STRIP_ROWS], suffix) for start in starts)
            write_png(path, strips, self.size, self.metadata)
        else:
            write_image(path, _convert_for_file(self.image, suffix), self.metadata)

    def _save_npy(self, path: Path) -> None:
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, self.image)


def _convert_for_file(image: np.ndarray, suffix: str) -> np.ndarray:
    """The image in channels and a number type that files of this suffix support."""
    if image.shape[2] == 2:
        image = image[..., [0, 0, 0, 1]]
    if image.dtype.kind == "f":
        levels, dtype = (65535, np.uint16) if suffix in (".png", ".tif", ".tiff") else (255, np.uint8)
        image = np.rint(np.nan_to_num(image).clip(0, 1) * levels).astype(dtype)
    return image
